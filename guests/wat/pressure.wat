;; Keeps a cache of buffers that the host lends it, and gives them back when told of pressure or
;; when it asks: for hooks between calls, and for what a guest can really give back.
(module
  ;; The level of pressure, 0 to 100.
  (import "wrt_memory" "pressure" (func $pressure (result i32)))
  ;; A buffer of so many bytes: its number, or -1.
  (import "env" "take" (func $take (param i32) (result i32)))
  (import "env" "give" (func $give (param i32)))
  ;; The buffers' numbers, 4 bytes each.
  (memory (export "memory") 1)
  (global $cached (mut i32) (i32.const 0))
  (global $size (mut i32) (i32.const 0))
  ;; From this level on the hook traps.
  (global $brittle (mut i32) (i32.const 101))

  ;; Takes buffers of so many bytes until refused, or until it has so many. Returns how many it has.
  (func (export "fill") (param $size i32) (param $most i32) (result i32)
    (local $buffer i32)
    (global.set $size (local.get $size))
    (block $full
      (loop $more
        (br_if $full (i32.ge_u (global.get $cached) (local.get $most)))
        (local.set $buffer (call $take (local.get $size)))
        (br_if $full (i32.eq (local.get $buffer) (i32.const -1)))
        (i32.store (i32.shl (global.get $cached) (i32.const 2)) (local.get $buffer))
        (global.set $cached (i32.add (global.get $cached) (i32.const 1)))
        (br $more)))
    (global.get $cached))

  ;; Gives back until it has no more than so many. Returns the bytes given back.
  (func $shrink (param $least i32) (result i32)
    (local $given i32)
    (block $done
      (loop $again
        (br_if $done (i32.le_u (global.get $cached) (local.get $least)))
        (global.set $cached (i32.sub (global.get $cached) (i32.const 1)))
        (call $give (i32.load (i32.shl (global.get $cached) (i32.const 2))))
        (local.set $given (i32.add (local.get $given) (global.get $size)))
        (br $again)))
    (local.get $given))

  ;; Told of pressure: keeps half of its cache below 90, and nothing from there on. Returns the bytes
  ;; given back.
  (func (export "wrt_memory_pressure") (param $level i32) (result i32)
    (if (i32.ge_u (local.get $level) (global.get $brittle)) (then unreachable))
    (if (result i32) (i32.ge_u (local.get $level) (i32.const 90))
      (then (call $shrink (i32.const 0)))
      (else (call $shrink (i32.shr_u (global.get $cached) (i32.const 1))))))

  ;; A step of work that asks first, and gives all back from 75 on. Returns how many it has.
  (func (export "step") (result i32)
    (if (i32.ge_u (call $pressure) (i32.const 75))
      (then (drop (call $shrink (i32.const 0)))))
    (global.get $cached))

  ;; Makes the hook trap from this level on.
  (func (export "break_at") (param $level i32)
    (global.set $brittle (local.get $level))))
