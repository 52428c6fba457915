;; A component of two core instances, each with a memory of its own: one guest to its host,
;; two memories to the runtime.
(component
  (core module $part
    (memory (export "memory") 1)
    (func (export "grow") (param $pages i32) (result i32)
      (memory.grow (local.get $pages)))
    (func (export "size") (result i32) (memory.size)))
  (core module $both
    (import "first" "size" (func $first (result i32)))
    (import "second" "size" (func $second (result i32)))
    (func (export "sizes") (result i32)
      (i32.add (call $first) (call $second))))
  (core instance $first (instantiate $part))
  (core instance $second (instantiate $part))
  (core instance $sum (instantiate $both
    (with "first" (instance $first))
    (with "second" (instance $second))))

  ;; The pages of both.
  (func (export "sizes") (result u32)
    (canon lift (core func $sum "sizes")))

  ;; Grows the first by so many pages. Returns its old size in pages, or -1.
  (func (export "grow") (param "pages" u32) (result s32)
    (canon lift (core func $first "grow"))))
