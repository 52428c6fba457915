;; A memory with 64-bit indices (memory64): requests beyond any address space.
(module
  (memory (export "memory") i64 1)

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i64) (result i64)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i64) (memory.size)))
