;; No memory, but a table of externref: in wasmtime that alone creates a GC heap, which comes
;; through the same hooks as a linear memory.
(module
  (table (export "table") 4 externref)

  ;; Grows by so many null elements. Returns the old size in elements, or -1.
  (func (export "grow") (param $elements i32) (result i32)
    (table.grow (ref.null extern) (local.get $elements)))

  ;; Put a reference into the table and take it out again.
  (func (export "set") (param $at i32) (param $value externref)
    (table.set (local.get $at) (local.get $value)))
  (func (export "get") (param $at i32) (result externref)
    (table.get (local.get $at)))

  ;; The size in elements.
  (func (export "size") (result i32) (table.size)))
