(set-option :print-success false)
(set-option :produce-models true)
(set-option :produce-unsat-cores true)
(set-logic QF_LIA)
; The largest amount a field holds.
(declare-const top Int)
(assert (<= 1 top))
(define-fun least ((x Int) (y Int)) Int (ite (<= x y) x y))
(define-fun most ((x Int) (y Int)) Int (ite (<= x y) y x))
; What x has above y.
(define-fun above ((x Int) (y Int)) Int (ite (<= x y) 0 (- x y)))
(define-fun fits ((x Int)) Bool (and (<= 0 x) (<= x top)))
; I3 and I4, and that each amount fits its field.
(define-fun valid ((used Int) (held Int) (floor Int) (limit Int)) Bool
  (and (fits used) (fits held) (fits floor) (fits limit)
       (<= floor held) (<= floor limit) (<= used held)))
; What a budget keeps of what it holds: its use, its floor, and stock above its use within its limit;
; all of it where it owes.
(define-fun kept ((used Int) (held Int) (floor Int) (limit Int) (owes Bool) (stock Int)) Int
  (ite owes held
    (least held (most (most used floor) (least (least (+ used stock) top) limit)))))
; How far the use may rise.
(define-fun usable ((used Int) (held Int) (floor Int) (owes Bool)) Int
  (ite owes (most used floor) held))
; Idle above the floor.
(define-fun stocked ((used Int) (held Int) (floor Int)) Int (above held (most used floor)))
; What came of a transition.
(define-fun Granted () Int 0)
(define-fun Closed () Int 1)
(define-fun OverLimit () Int 2)
(define-fun Short () Int 3)
(define-fun NotIdle () Int 4)
(define-fun BelowFloor () Int 5)
(define-fun InUse () Int 6)
(define-fun OutOfRange () Int 7)
(define-fun Queued () Int 8)
(define-fun Spills () Int 9)
