;; Asks for what no 32-bit memory of one page can get: a refusal must cost nothing, however
;; often it is repeated.
(module
  (memory (export "memory") 1)

  ;; Calls memory.grow n times with 65535 pages and returns how many calls gave -1. (With
  ;; 4 GiB to be had, the first call gets them and only the others are refused.)
  (func (export "run") (param $n i32) (result i32)
    (local $refused i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $refused
          (i32.add (local.get $refused)
            (i32.eq (memory.grow (i32.const 65535)) (i32.const -1))))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again)))
    (local.get $refused)))
