;; A table and no memory: tables take host memory too.
(module
  (table (export "table") 10 1000000 funcref)

  ;; Grows by so many null elements. Returns the old size in elements, or -1.
  (func (export "grow") (param $elements i32) (result i32)
    (table.grow (ref.null func) (local.get $elements)))

  ;; The size in elements.
  (func (export "size") (result i32) (table.size)))
