;; Calls the host, as "env" "call": what a crossing costs, and what the host may do in one.
(module
  (import "env" "call" (func $call))
  (memory (export "memory") 1)

  ;; Calls once.
  (func (export "run") (call $call))

  ;; Calls n times.
  (func (export "run_many") (param $n i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $n)))
        (call $call)
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again)))))
