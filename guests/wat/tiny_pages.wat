;; Pages of one byte (custom-page-sizes): sizes that are no multiple of 64 KiB, nor of the
;; host's pages.
(module
  (memory (export "memory") 2048 4096 (pagesize 1))

  ;; Grows by so many bytes. Returns the old size in bytes, or -1.
  (func (export "grow") (param $bytes i32) (result i32)
    (memory.grow (local.get $bytes)))

  ;; The size in bytes.
  (func (export "size") (result i32) (memory.size)))
