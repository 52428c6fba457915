;; An active data segment that does not fit: instantiation fails after the memory was made.
(module
  (memory (export "memory") 1)
  (data (i32.const 65534) "beyond"))
