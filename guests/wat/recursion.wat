;; Calls itself until the stack is exhausted, which must be a trap and leave the rest whole.
(module
  (memory (export "memory") 1)
  (func $run (export "run") (param $depth i32) (result i32)
    (i32.store (i32.const 0) (local.get $depth))
    ;; The addition after the call keeps it from being a tail call.
    (i32.add (call $run (i32.add (local.get $depth) (i32.const 1))) (i32.const 1))))
