;; Two memories in one instance (multi-memory): the limit must be on their sum.
(module
  (memory $m0 (export "memory") 1)
  (memory $m1 (export "memory1") 1)

  ;; Grow one of them by so many pages. Return its old size in pages, or -1.
  (func (export "grow0") (param $pages i32) (result i32)
    (memory.grow $m0 (local.get $pages)))
  (func (export "grow1") (param $pages i32) (result i32)
    (memory.grow $m1 (local.get $pages)))

  ;; Their sizes in pages.
  (func (export "size0") (result i32) (memory.size $m0))
  (func (export "size1") (result i32) (memory.size $m1)))
