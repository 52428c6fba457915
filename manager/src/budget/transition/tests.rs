//! Each transition against its line of the table in plain numbers: exhaustively over a field that
//! holds 0 to 7, where every boundary is near, and at random over the field that ships.
//!
//! What comes out is compared whole, so a step that changes more than it says fails. Refusals cannot
//! change anything: a transition has its state by value.

use core::cmp::{max, min};
use core::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::budget::amount::Units;

/// An amount as a plain number and back.
trait Number: Amount + Copy + Debug + PartialEq {
    const MAX: u64;
    fn of(value: u64) -> Self;
    fn get(self) -> u64;
}

impl Number for Units {
    const MAX: u64 = Units::MAX.get() as u64;
    fn of(value: u64) -> Self {
        Units::new(value.try_into().unwrap()).unwrap()
    }
    fn get(self) -> u64 {
        Units::get(self).into()
    }
}

/// A field of three bits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Small(u8);

impl Amount for Small {
    fn zero() -> Self {
        Self(0)
    }
    fn at_most(&self, other: &Self) -> bool {
        self.0 <= other.0
    }
    fn plus(&self, other: &Self) -> Option<Self> {
        Some(Self(self.0 + other.0)).filter(|sum| sum.0 <= 7)
    }
    fn minus(&self, other: &Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
    fn plus_saturating(&self, other: &Self) -> Self {
        Self(min(self.0 + other.0, 7))
    }
}

impl Number for Small {
    const MAX: u64 = 7;
    fn of(value: u64) -> Self {
        assert!(value <= 7);
        Self(value as u8)
    }
    fn get(self) -> u64 {
        self.0.into()
    }
}

/// A state in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plain {
    used: u64,
    held: u64,
    floor: u64,
    limit: u64,
    closed: bool,
    owes: bool,
}

const VERSION: u8 = 2;

impl Plain {
    fn valid(&self) -> bool {
        self.used <= self.held && self.floor <= min(self.held, self.limit)
    }

    fn state<A: Number>(&self) -> State<A> {
        State {
            used: A::of(self.used),
            held: A::of(self.held),
            floor: A::of(self.floor),
            limit: A::of(self.limit),
            closed: self.closed,
            owes: self.owes,
            version: VERSION,
        }
    }

    fn excess(&self) -> u64 {
        self.held.saturating_sub(self.limit)
    }
}

type Outcome<T> = Result<(Plain, T), Refusal<u64>>;

/// What a transition said, in plain numbers.
fn plain<A: Number, T, U>(step: Step<A, T>, given: impl Fn(T) -> U) -> Outcome<U> {
    let get = A::get;
    match step {
        Ok((state, out)) => {
            assert_eq!(state.version, VERSION, "no transition changes the version");
            let State { used, held, floor, limit, closed, owes, .. } = state;
            let next = Plain {
                used: get(used),
                held: get(held),
                floor: get(floor),
                limit: get(limit),
                closed,
                owes,
            };
            Ok((next, given(out)))
        }
        Err(refusal) => Err(match refusal {
            Refusal::Closed => Refusal::Closed,
            Refusal::OverLimit(by) => Refusal::OverLimit(get(by)),
            Refusal::Short(by) => Refusal::Short(get(by)),
            Refusal::NotIdle(is) => Refusal::NotIdle(get(is)),
            Refusal::BelowFloor(is) => Refusal::BelowFloor(get(is)),
            Refusal::InUse(is) => Refusal::InUse(get(is)),
            Refusal::OutOfRange => Refusal::OutOfRange,
            Refusal::Spills => Refusal::Spills,
            Refusal::Queued => unreachable!("no transition says so"),
        }),
    }
}

/// What is said about every step that was taken: I2 to I4.
fn keeps_invariants<T: Debug>(before: &Plain, step: &Outcome<T>, may_lower_limit: bool) {
    let Ok((after, _)) = step else { return };
    assert!(after.valid(), "I3, I4: {before:?} -> {after:?}");
    assert!(may_lower_limit || after.excess() <= before.excess(), "I2: {before:?} -> {after:?}");
}

/// How far the use may rise.
fn usable(p: &Plain) -> u64 {
    if p.owes { max(p.used, p.floor) } else { p.held }
}

/// What it lacks, beside `credit`, to give a child `n` bytes and `floor`. Of one that owes, what is above its
/// floor is owed: there a floor is raised only by bytes that come for it.
fn delegate_lacks(p: &Plain, credit: u64, n: u64, floor: u64) -> u64 {
    let short = max(p.used + n, p.floor + floor).saturating_sub(usable(p) + credit);
    if p.owes { max(short, floor.saturating_sub(credit)) } else { short }
}

/// What a budget keeps of what it holds: the rest goes to the parent.
fn kept(p: &Plain, stock: u64, max_amount: u64) -> u64 {
    if p.owes {
        return p.held;
    }
    min(p.held, max(max(p.used, p.floor), min(min(p.used + stock, max_amount), p.limit)))
}

/// Runs every transition from `p` with the amounts `n`, `floor` and `stock`, and compares.
fn compare<A: Number>(p: Plain, n: u64, floor: u64, stock: u64) {
    let (state, an, af, astock) = (p.state::<A>(), A::of(n), A::of(floor), A::of(stock));
    let same = |amount: A| amount.get();
    let over = |by: u64| Refusal::OverLimit(min(by, A::MAX));

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if p.used + n > p.limit {
        Err(over(p.used + n - p.limit))
    } else if p.used + n > usable(&p) {
        Err(Refusal::Short(p.used + n - usable(&p)))
    } else {
        Ok((Plain { used: p.used + n, ..p }, ()))
    };
    let step = plain(charge(state, &an), |()| ());
    assert_eq!(step, expected, "charge {n} to {p:?}");
    keeps_invariants(&p, &step, false);
    if !p.closed && p.used + n <= p.floor {
        assert!(step.is_ok(), "the guarantee: {n} of {p:?}");
    }

    let expected = if n > p.used {
        Err(Refusal::OutOfRange)
    } else {
        let next = Plain { used: p.used - n, ..p };
        let held = kept(&next, stock, A::MAX);
        Ok((Plain { held, ..next }, p.held - held))
    };
    let step = plain(uncharge(state, &an, &astock), same);
    assert_eq!(step, expected, "uncharge {n} from {p:?} with stock {stock}");
    keeps_invariants(&p, &step, false);

    // Of nothing, it may leave to the other what that leaves as it is.
    let quickly = plain(uncharge_and_keep(state, &an, &astock), |()| 0);
    match step {
        Ok((_, 0)) if !p.owes && (n > 0 || p.held <= p.limit) => {
            assert_eq!(quickly, step, "keep: {n} from {p:?}")
        }
        Ok(_) => assert_eq!(quickly, Err(Refusal::Spills), "keep: {n} from {p:?} with stock {stock}"),
        Err(_) => assert!(quickly.is_err(), "keep: {n} from {p:?}"),
    }

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if p.used + n > p.limit {
        Err(over(p.used + n - p.limit))
    } else if p.floor + floor > A::MAX {
        Err(Refusal::OutOfRange)
    } else if p.floor + floor > p.limit {
        Err(over(p.floor + floor - p.limit))
    } else if delegate_lacks(&p, 0, n, floor) > 0 {
        Err(Refusal::Short(delegate_lacks(&p, 0, n, floor)))
    } else {
        Ok((Plain { used: p.used + n, floor: p.floor + floor, ..p }, ()))
    };
    let step = plain(delegate(state, &an, &af), |()| ());
    assert_eq!(step, expected, "delegate {n} with floor {floor} from {p:?}");
    keeps_invariants(&p, &step, false);

    // `stock` stands for the credit here: what is fetched is usable whether the budget owes or not.
    let expected = if usable(&p) + stock > A::MAX || p.held + stock > A::MAX {
        Err(Refusal::OutOfRange)
    } else if p.closed {
        Err(Refusal::Closed)
    } else if stock > 0 && p.held + stock > p.limit {
        Err(over(p.held + stock - p.limit))
    } else if p.used + n > p.limit {
        Err(over(p.used + n - p.limit))
    } else if p.floor + floor > A::MAX {
        Err(Refusal::OutOfRange)
    } else if p.floor + floor > p.limit {
        Err(over(p.floor + floor - p.limit))
    } else if delegate_lacks(&p, stock, n, floor) > 0 {
        Err(Refusal::Short(delegate_lacks(&p, stock, n, floor)))
    } else {
        Ok((Plain { used: p.used + n, held: p.held + stock, floor: p.floor + floor, ..p }, ()))
    };
    let step = plain(refill_and_delegate(state, &astock, &an, &af), |()| ());
    assert!(
        step == expected || (p.closed && step.is_err() && expected.is_err()),
        "refill {p:?} with {stock} and delegate {n} with floor {floor}: {step:?}, not {expected:?}"
    );
    keeps_invariants(&p, &step, false);

    let expected = if floor > p.floor || n > p.used {
        Err(Refusal::OutOfRange)
    } else {
        let next = Plain { used: p.used - n, floor: p.floor - floor, ..p };
        let held = kept(&next, stock, A::MAX);
        Ok((Plain { held, ..next }, p.held - held))
    };
    let step = plain(undelegate(state, &an, &af, &astock), same);
    assert_eq!(step, expected, "undelegate {n} with floor {floor} from {p:?} with stock {stock}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if p.held + n > A::MAX {
        Err(Refusal::OutOfRange)
    } else if n > 0 && p.held + n > p.limit {
        Err(over(p.held + n - p.limit))
    } else if p.floor + floor > A::MAX {
        Err(Refusal::OutOfRange)
    } else if p.floor + floor > p.limit {
        Err(over(p.floor + floor - p.limit))
    } else if p.owes && floor > n {
        Err(Refusal::Short(floor - n))
    } else if p.floor + floor > p.held + n {
        Err(Refusal::Short(p.floor + floor - p.held - n))
    } else {
        Ok((Plain { held: p.held + n, floor: p.floor + floor, ..p }, ()))
    };
    let step = plain(refill(state, &an, &af), |()| ());
    assert_eq!(step, expected, "refill {p:?} with {n} and floor {floor}");
    keeps_invariants(&p, &step, false);

    let given = if p.owes { 0 } else { min(n, p.held - max(p.used, p.floor)) };
    let step = plain(release(state, &an), same);
    assert_eq!(step, Ok((Plain { held: p.held - given, ..p }, given)), "release {n} of {p:?}");
    keeps_invariants(&p, &step, false);

    let lendable = if p.owes { 0 } else { min(p.held - p.used, p.floor) };
    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if n > lendable {
        Err(Refusal::NotIdle(lendable))
    } else {
        Ok((Plain { held: p.held - n, floor: p.floor - n, limit: p.limit - n, ..p }, ()))
    };
    let step = plain(lend(state, &an), |()| ());
    assert_eq!(step, expected, "lend {n} of {p:?}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if max(p.limit, max(p.held, p.floor)) + n > A::MAX {
        Err(Refusal::OutOfRange)
    } else {
        Ok((Plain { held: p.held + n, floor: p.floor + n, limit: p.limit + n, ..p }, ()))
    };
    let step = plain(borrow(state, &an), |()| ());
    assert_eq!(step, expected, "lend {n} to {p:?}");
    keeps_invariants(&p, &step, false);

    let expected = expected.and_then(|(next, ())| {
        if p.used + n > A::MAX {
            Err(Refusal::OutOfRange)
        } else {
            Ok((Plain { used: p.used + n, ..next }, ()))
        }
    });
    let step = plain(pass_down(state, &an), |()| ());
    assert_eq!(step, expected, "pass {n} down through {p:?}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if n > min(p.used, p.floor) {
        Err(Refusal::OutOfRange)
    } else {
        Ok((Plain { used: p.used - n, held: p.held - n, floor: p.floor - n, limit: p.limit - n, ..p }, ()))
    };
    let step = plain(pass_up(state, &an), |()| ());
    assert_eq!(step, expected, "pass {n} up through {p:?}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if n > p.floor {
        Err(Refusal::OutOfRange)
    } else {
        let idle = min(n, usable(&p) - p.used);
        let owes = p.owes || idle < n;
        Ok((Plain { held: p.held - idle, floor: p.floor - n, limit: p.limit - n, owes, ..p }, idle))
    };
    let step = plain(recall(state, &an), same);
    assert_eq!(step, expected, "recall {n} of {p:?}");
    keeps_invariants(&p, &step, true);
    if let Ok((after, _)) = step {
        assert!(after.excess() <= p.excess() + min(n, p.used), "I2: no more than is in use of it");
    }

    let paid = min(n, p.held - max(p.used, p.floor));
    let next = Plain { held: p.held - paid, owes: paid < n, ..p };
    let held = kept(&next, stock, A::MAX);
    let expected = Ok((Plain { held, ..next }, (paid, next.held - held)));
    let step = plain(settle_debt(state, &an, &astock), |(paid, spilled)| (paid.get(), spilled.get()));
    assert_eq!(step, expected, "settle {n} of {p:?} with stock {stock}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if n < p.floor {
        Err(Refusal::BelowFloor(p.floor))
    } else {
        let held = if p.owes { p.held } else { min(p.held, max(p.used, n)) };
        Ok((Plain { held, limit: n, ..p }, p.held - held))
    };
    let step = plain(set_limit(state, &an), same);
    assert_eq!(step, expected, "limit of {p:?} to {n}");
    keeps_invariants(&p, &step, true);

    let expected = expected.map(|(next, _)| (Plain { held: max(next.held, n), ..next }, ()));
    let step = plain(set_total(state, &an), |()| ());
    assert_eq!(step, expected, "total of {p:?} to {n}");
    keeps_invariants(&p, &step, true);

    let expected = if n > p.floor {
        Err(Refusal::OutOfRange)
    } else {
        let next = Plain { floor: p.floor - n, ..p };
        let held = kept(&next, stock, A::MAX);
        Ok((Plain { held, ..next }, p.held - held))
    };
    let step = plain(lower_floor(state, &an, &astock), same);
    assert_eq!(step, expected, "floor of {p:?} lower by {n} with stock {stock}");
    keeps_invariants(&p, &step, false);

    let expected = if p.closed {
        Err(Refusal::Closed)
    } else if p.used > 0 {
        Err(Refusal::InUse(p.used))
    } else {
        Ok((Plain { used: 0, held: 0, floor: 0, limit: 0, closed: true, owes: false }, (p.held, p.floor)))
    };
    let step = plain(retire(state), |(held, floor)| (held.get(), floor.get()));
    assert_eq!(step, expected, "retire {p:?}");
    keeps_invariants(&p, &step, true);
}

fn valid_small(upto: u64) -> impl Iterator<Item = Plain> {
    let digits = (upto + 1).pow(4);
    (0..digits).flat_map(move |code| {
        let digit = |at: u32| code / (upto + 1).pow(at) % (upto + 1);
        let open = Plain {
            used: digit(0),
            held: digit(1),
            floor: digit(2),
            limit: digit(3),
            closed: false,
            owes: false,
        };
        [open, Plain { closed: true, ..open }, Plain { owes: true, ..open }].into_iter().filter(Plain::valid)
    })
}

#[test]
fn every_transition_from_every_small_state_is_what_the_table_says() {
    let mut states = 0;
    for p in valid_small(4) {
        states += 1;
        for n in 0..=4 {
            for floor in 0..=4 {
                for stock in 0..=4 {
                    compare::<Small>(p, n, floor, stock);
                }
            }
        }
    }
    assert_eq!(states, 3 * 190, "valid states");
}

#[test]
fn every_transition_at_the_end_of_its_field_is_what_the_table_says() {
    for p in valid_small(7) {
        for n in [0, 1, 3, 6, 7] {
            for floor in [0, 1, 7] {
                compare::<Small>(p, n, floor, 7 - n);
            }
        }
    }
}

/// An amount of the field that ships: often near one of its ends.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=Units::MAX.get() as u64,
        0..=5u64,
        (0..=5u64).prop_map(|below| u64::from(Units::MAX.get()) - below)
    ]
}

fn valid_state() -> impl Strategy<Value = Plain> {
    (amount(), amount(), amount(), amount(), prop::bool::weighted(0.1), prop::bool::weighted(0.2)).prop_map(
        |(a, b, c, limit, closed, owes)| {
            let held = max(a, b);
            Plain { used: min(a, b), held, floor: min(c, min(held, limit)), limit, closed, owes }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_transition_from_any_valid_state_is_what_the_table_says(
        p in valid_state(), n in amount(), floor in amount(), stock in amount(),
    ) {
        compare::<Units>(p, n, floor, stock);
        // At the boundary itself, and one past it.
        for near in [p.held - p.used, p.limit.saturating_sub(p.used), p.floor, p.used] {
            for n in [near.saturating_sub(1), near, min(near + 1, Units::MAX.get().into())] {
                compare::<Units>(p, n, floor, stock);
            }
        }
    }

    #[test]
    fn what_is_lent_is_had_and_what_is_repaid_is_had_back(
        lender in valid_state(), borrower in valid_state(), n in amount(),
    ) {
        let (l, b) = (lender.state::<Units>(), borrower.state::<Units>());
        if let (Ok((l2, ())), Ok((b2, ()))) = (lend(l, &Units::of(n)), borrow(b, &Units::of(n))) {
            let sum = |a: Units, b: Units| u64::from(a.get()) + u64::from(b.get());
            prop_assert_eq!(sum(l2.held, b2.held), sum(l.held, b.held));
            prop_assert_eq!(sum(l2.floor, b2.floor), sum(l.floor, b.floor));
            prop_assert_eq!(sum(l2.limit, b2.limit), sum(l.limit, b.limit));
            prop_assert_eq!((l2.used, b2.used), (l.used, b.used));
            // The borrower has not touched it; unless it owed before, and this loan is what pays for that.
            prop_assume!(!borrower.owes);
            let (b3, idle) = recall(b2, &Units::of(n)).unwrap();
            prop_assert_eq!(idle, Units::of(n));
            let (l3, ()) = borrow(l2, &Units::of(n)).unwrap();
            prop_assert_eq!((l3, b3), (l, b));
        }
    }
}

#[test]
fn a_borrower_at_its_limit_is_lent_to_all_the_same_and_may_use_it() {
    let at_limit =
        Plain { used: 10, held: 10, floor: 0, limit: 10, closed: false, owes: false }.state::<Units>();
    let (borrower, ()) = borrow(at_limit, &Units::of(5)).unwrap();
    assert_eq!((borrower.held, borrower.limit, borrower.floor), (Units::of(15), Units::of(15), Units::of(5)));
    assert!(charge(borrower, &Units::of(5)).is_ok());
    assert_eq!(charge(borrower, &Units::of(6)), Err(Refusal::OverLimit(Units::of(1))));
    // Above its limit, too: the limit was set below what it uses.
    let above = Plain { used: 10, held: 10, floor: 0, limit: 4, closed: false, owes: false }.state::<Units>();
    let (borrower, ()) = borrow(above, &Units::of(5)).unwrap();
    assert_eq!((borrower.held, borrower.limit), (Units::of(15), Units::of(9)));
    assert!(charge(borrower, &Units::of(1)).is_err());
}

/// What a budget owes is held above its floor, in use or idle: so it can be paid when nothing is in use.
#[test]
fn no_step_uses_what_is_owed_to_back_a_floor() {
    for p in valid_small(5).filter(|p| p.owes && !p.closed && p.held > p.floor) {
        let owed = p.held - p.floor;
        let still = |step: Result<State<Small>, Refusal<Small>>, owed: u64, what: &str| {
            let Ok(next) = step else { return };
            assert!(next.held.get() >= next.floor.get() + owed, "{what} from {p:?}: {next:?} owes {owed}");
        };
        let state = p.state::<Small>();
        for n in 0..=5 {
            let an = Small::of(n);
            still(charge(state, &an).map(|(s, ())| s), owed, "charge");
            still(release(state, &an).map(|(s, _)| s), owed, "release");
            still(lend(state, &an).map(|(s, ())| s), owed, "lend");
            still(borrow(state, &an).map(|(s, ())| s), owed, "borrow");
            still(pass_up(state, &an).map(|(s, ())| s), owed, "pass_up");
            still(pass_down(state, &an).map(|(s, ())| s), owed, "pass_down");
            still(set_limit(state, &an).map(|(s, _)| s), owed, "set_limit");
            let recalled = recall(state, &an);
            let later = n - recalled.map_or(0, |(_, idle)| idle.get());
            still(recalled.map(|(s, _)| s), owed + later, "recall");
            let settled = settle_debt(state, &Small::of(owed), &an);
            let left = owed - settled.map_or(0, |(_, (paid, _))| paid.get());
            still(settled.map(|(s, _)| s), left, "settle_debt");
            for floor in 0..=5 {
                let af = Small::of(floor);
                still(delegate(state, &an, &af).map(|(s, ())| s), owed, "delegate");
                still(refill(state, &an, &af).map(|(s, ())| s), owed, "refill");
                still(undelegate(state, &an, &af, &an).map(|(s, _)| s), owed, "undelegate");
                still(lower_floor(state, &af, &an).map(|(s, _)| s), owed, "lower_floor");
                for credit in 0..=5 {
                    let fetched = refill_and_delegate(state, &Small::of(credit), &an, &af);
                    still(fetched.map(|(s, ())| s), owed, "refill_and_delegate");
                }
            }
        }
    }
}
