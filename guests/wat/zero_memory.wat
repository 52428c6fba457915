;; A memory of no pages: it still has a base, and may grow.
(module
  (memory (export "memory") 0)

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size)))
