//! Guests of more than one bench.

/// Grows to so many pages, one at a time, and returns the size in pages.
pub const GROWS: &str = r#"
(module
  (memory (export "memory") 1)
  (func (export "run") (param $to i32) (result i32)
    (block $refused
      (loop $next
        (br_if $refused (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (br_if $next (i32.lt_u (memory.size) (local.get $to)))))
    (memory.size)))
"#;

/// What is computed over a mebibyte; each function returns a checksum.
pub const WORKS: [&str; 3] = ["sum", "scatter", "matrix"];

/// `sum` reads one word after another and does next to nothing with it. `scatter` changes words here and there, where one
/// decides which is next. `matrix` multiplies two of 64 by 64 doubles, and stores what comes out.
pub const COMPUTES: &str = r#"
(module
  (memory (export "memory") 16 256)
  (func (export "fill")
    (local $at i32) (local $state i32)
    (local.set $state (i32.const 1))
    (loop $next
      (local.set $state (i32.add (i32.mul (local.get $state) (i32.const 1664525)) (i32.const 1013904223)))
      (i32.store (local.get $at) (i32.and (local.get $state) (i32.const 0x3fffffff)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x100000)))))
  (func (export "sum") (result i32)
    (local $at i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $sum (i32.xor (local.get $sum) (i32.load offset=4 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x100000))))
    (local.get $sum))
  (func (export "scatter") (result i32)
    (local $left i32) (local $state i32) (local $at i32)
    (local.set $left (i32.const 65536))
    (local.set $state (i32.const 1))
    (loop $next
      (local.set $at (i32.and (local.get $state) (i32.const 0xffffc)))
      (local.set $state (i32.xor (local.get $state) (i32.shl (local.get $state) (i32.const 13))))
      (local.set $state (i32.xor (local.get $state) (i32.shr_u (local.get $state) (i32.const 17))))
      (local.set $state (i32.xor (local.get $state) (i32.shl (local.get $state) (i32.const 5))))
      (local.set $state (i32.add (local.get $state) (i32.load (local.get $at))))
      (i32.store (local.get $at) (i32.rotl (i32.load (local.get $at)) (i32.const 1)))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $state))
  (func (export "matrix") (result i32)
    (local $i i32) (local $j i32) (local $k i32) (local $sum f64) (local $all f64)
    (loop $rows
      (local.set $j (i32.const 0))
      (loop $columns
        (local.set $k (i32.const 0))
        (local.set $sum (f64.const 0))
        (loop $terms
          (local.set $sum (f64.add (local.get $sum) (f64.mul
            (f64.convert_i32_u (i32.load
              (i32.shl (i32.add (i32.shl (local.get $i) (i32.const 6)) (local.get $k)) (i32.const 3))))
            (f64.convert_i32_u (i32.load offset=32768
              (i32.shl (i32.add (i32.shl (local.get $k) (i32.const 6)) (local.get $j)) (i32.const 3)))))))
          (br_if $terms (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 64))))
        (f64.store offset=65536
          (i32.shl (i32.add (i32.shl (local.get $i) (i32.const 6)) (local.get $j)) (i32.const 3))
          (local.get $sum))
        (local.set $all (f64.add (local.get $all) (local.get $sum)))
        (br_if $columns (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (i32.const 64))))
      (br_if $rows (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    (i32.trunc_sat_f64_u (f64.div (local.get $all) (f64.const 0x1p60)))))
"#;
