;; Takes a shared memory from the host, as "env" "memory" (threads): several instances, in
;; several stores, may hold it at once.
(module
  (import "env" "memory" (memory 1 16 shared))
  (export "memory" (memory 0))

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size))

  ;; Adds to the word at address 0. Returns its old value.
  (func (export "add") (param $value i32) (result i32)
    (i32.atomic.rmw.add (i32.const 0) (local.get $value))))
