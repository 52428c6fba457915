;; Loads and stores at scattered addresses of 1 MiB: how fast guest code runs in a memory, with
;; its bounds checks or without.
(module
  (memory (export "memory") 16)

  ;; Steps a xorshift generator n times from a fixed seed; each number is added to the word
  ;; it addresses, and the results are added up. Returns the sum.
  (func (export "run") (param $n i32) (result i32)
    (local $x i32) (local $at i32) (local $word i32) (local $sum i32)
    (local.set $x (i32.const 0x9e3779b9))
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
        (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
        (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
        (local.set $at (i32.and (local.get $x) (i32.const 0xffffc)))
        (local.set $word (i32.add (i32.load (local.get $at)) (local.get $x)))
        (i32.store (local.get $at) (local.get $word))
        (local.set $sum (i32.add (local.get $sum) (local.get $word)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again)))
    (local.get $sum)))
