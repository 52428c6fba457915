;; Never returns: for deadlines, interruption, and what is freed after them.
(module
  (memory (export "memory") 1)
  (func (export "run")
    (loop $forever
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
      (br $forever))))
