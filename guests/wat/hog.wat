;; Takes all the memory it can get: for budgets, refusals and what they leave behind.
(module
  (memory (export "memory") 1)

  ;; Grows by one page until refused and writes to the first byte of each new page.
  ;; Returns the pages gained.
  (func (export "run") (result i32)
    (local $at i32) (local $gained i32)
    (block $refused
      (loop $more
        (local.set $at (memory.grow (i32.const 1)))
        (br_if $refused (i32.eq (local.get $at) (i32.const -1)))
        (i32.store8 (i32.shl (local.get $at) (i32.const 16)) (i32.const 1))
        (local.set $gained (i32.add (local.get $gained) (i32.const 1)))
        (br $more)))
    (local.get $gained))

  ;; Grows by so many pages. Returns the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; The size in pages.
  (func (export "size") (result i32) (memory.size)))
