;; 2000 pages (125 MiB) from the start: refused at instantiation, not at a grow.
(module
  (memory (export "memory") 2000)

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size)))
