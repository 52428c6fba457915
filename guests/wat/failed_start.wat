;; Instantiation fails in the start function, when the memory has been there for a while: its
;; four pages must not stay counted longer than they live.
(module
  (memory (export "memory") 4)
  (func $start
    (i32.store (i32.const 0) (i32.const 1))
    (unreachable))
  (start $start))
