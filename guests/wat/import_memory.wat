;; Takes its memory from the host, as "env" "memory": who pays is decided outside.
(module
  (import "env" "memory" (memory 1))
  (export "memory" (memory 0))

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size)))
