;; Fills the GC heap with objects that stay reachable (gc): host memory that no memory.grow
;; asked for.
(module
  (type $node (struct
    (field $next (ref null $node))
    (field i64) (field i64) (field i64) (field i64)
    (field i64) (field i64) (field i64) (field i64)))
  (global $list (mut (ref null $node)) (ref.null $node))

  ;; Puts n nodes of 64 bytes and a header each at the front of the list. Returns how many
  ;; nodes the list has then. Traps when the heap cannot grow.
  (func (export "run") (param $n i32) (result i32)
    (local $node (ref null $node)) (local $length i32)
    (block $allocated
      (loop $more
        (br_if $allocated (i32.eqz (local.get $n)))
        (global.set $list
          (struct.new $node (global.get $list)
            (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)
            (i64.const 5) (i64.const 6) (i64.const 7) (i64.const 8)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $more)))
    (local.set $node (global.get $list))
    (block $end
      (loop $next
        (br_if $end (ref.is_null (local.get $node)))
        (local.set $length (i32.add (local.get $length) (i32.const 1)))
        (local.set $node (struct.get $node $next (local.get $node)))
        (br $next)))
    (local.get $length))

  ;; Lets go of the list.
  (func (export "clear") (global.set $list (ref.null $node))))
