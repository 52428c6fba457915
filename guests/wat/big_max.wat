;; One page and leave to have all 65536 (4 GiB): sizes at the edge of 32 bits.
(module
  (memory (export "memory") 1 65536)

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size)))
