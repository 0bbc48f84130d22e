;; A plugin for tests. It wants `path`, `query` and the field `x-a`, of responses too.
;;
;; `key` answers the path as the only part, `storing` one minute and the tag `path`, `invalidation`
;; the path, softly. Tests put code in the places in double braces, which runs first; that of `key`
;; only for paths of four octets.
(module
  (import "larder:policy/log@0.1.0" "write" (func $write (param i32 i32 i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 4096))

  ;; 1024: what `configure` answers: inputs, the six lists, `prepared`. 64: the list of one field
  ;; name. 72, 80, 96: texts.
  (data (i32.const 1024)
    "\00\00\00\00" "\28\00\00\00" "\40\00\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00" "\40\00\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")
  (data (i32.const 64) "\48\00\00\00\03\00\00\00")
  (data (i32.const 72) "x-a")
  (data (i32.const 80) "path")
  (data (i32.const 96) "\ff\fe")
  ;; 128: what `key` answers, parts. 160: the only part, named `path`.
  (data (i32.const 128) "\00\00\00\00" "\00\00\00\00" "\a0\00\00\00\01\00\00\00")
  (data (i32.const 160) "\50\00\00\00\04\00\00\00")
  ;; 200: what `storing` answers: store, one minute, the tag `path`.
  (data (i32.const 200)
    "\00\00\00\00" "\01\00\00\00" "\01\00\00\00\3c\00\00\00" "\f0\00\00\00\01\00\00\00")
  (data (i32.const 240) "\50\00\00\00\04\00\00\00")
  ;; 260: what `invalidation` answers. 280: the only scope, a path, soft.
  (data (i32.const 260) "\00\00\00\00" "\18\01\00\00\01\00\00\00")
  (data (i32.const 280) "\01\00\00\00" "\00\00\00\00\00\00\00\00" "\01\00\00\00")

  {{more}}

  (func (export "cabi_realloc") (param $old i32) (param i32 i32) (param $size i32) (result i32)
    {{realloc}}
    (global.get $heap)
    (global.set $heap
      (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7)))
        (i32.const -8))))

  (func (export "larder:policy/configure@0.1.0#configure") (param i32 i32) (result i32)
    {{configure}}
    (i32.const 1024))

  ;; In the arguments, the path's place and length are at 32 and 36.
  (func (export "larder:policy/key@0.1.0#key") (param $request i32) (result i32)
    (i32.store (i32.const 168) (i32.load offset=32 (local.get $request)))
    (i32.store (i32.const 172) (i32.load offset=36 (local.get $request)))
    (if (i32.eq (i32.load (i32.const 172)) (i32.const 4))
      (then {{key}}))
    (i32.const 128))

  (func (export "larder:policy/storing@0.1.0#storing") (param $request i32) (result i32)
    {{storing}}
    (i32.const 200))

  ;; In the arguments, a write's path has its place and length at 36 and 40.
  (func (export "larder:policy/invalidation@0.1.0#invalidation") (param $cause i32) (result i32)
    {{invalidation}}
    (i32.store (i32.const 284) (i32.load offset=36 (local.get $cause)))
    (i32.store (i32.const 288) (i32.load offset=40 (local.get $cause)))
    (i32.const 260)))
