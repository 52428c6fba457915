;; Leaks a page at every step, as a service that never frees does.
(module
  (memory (export "memory") 1)

  ;; Grows by one page and writes to it. Returns the number of the new page, or -1.
  (func (export "step") (result i32)
    (local $at i32)
    (local.set $at (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $at) (i32.const -1))
      (then
        (i32.store (i32.shl (local.get $at) (i32.const 16)) (local.get $at))))
    (local.get $at)))
