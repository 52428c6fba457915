;; One active data segment: what copy-on-write images and recycled memories must get right.
(module
  (memory (export "memory") 1)
  (data (i32.const 16) "hello")

  ;; The byte at an address.
  (func (export "read") (param $at i32) (result i32)
    (i32.load8_u (local.get $at)))

  ;; Writes a byte.
  (func (export "write") (param $at i32) (param $byte i32)
    (i32.store8 (local.get $at) (local.get $byte))))
