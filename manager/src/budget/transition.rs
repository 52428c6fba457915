//! The ledger's transitions: pure functions from one state of a budget to the next.
//!
//! They know no atomics; `AtomicBudget` (`atomic.rs`) applies them. They are
//! generic over the integer, so that what is proved is what ships. Each either gives the whole
//! next state or refuses and says why; none is ever applied in part.
//!
//! Kept by every one of them: I2 (none but [`set_limit`] and [`recall`] raises what is held above the
//! limit, no charge takes `used` above it), I3 (`floor <= held`, `floor <= limit`), I4 (`used <= held`).
//! I1, that a parent's `used` is what its children hold and what is in transit, follows from what
//! each says it gives or takes.

use super::amount::Amount;
use super::state::State;

/// Why a transition was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal<A> {
    /// The budget is closed.
    Closed,
    /// It would pass the limit by this much.
    OverLimit(A),
    /// It lacks this much from its parent.
    Short(A),
    /// Less is idle, or guaranteed, than was asked: this much is.
    NotIdle(A),
    /// The limit would be below the floor, which is this.
    BelowFloor(A),
    /// This much is in use.
    InUse(A),
    /// Not all of what it holds would stay with it.
    Spills,
    /// Others wait for bytes there, and go first. No transition says so: the tracker does.
    Queued,
    /// An amount would leave its field's range, or more is given back than was taken.
    OutOfRange,
}

type Step<A, T> = Result<(State<A>, T), Refusal<A>>;

fn not_closed<A>(state: &State<A>) -> Result<(), Refusal<A>> {
    if state.closed { Err(Refusal::Closed) } else { Ok(()) }
}

/// Takes what is held above what the budget keeps: its use, its floor, and `stock` above its use. Of a
/// budget that owes nothing: that goes to whom it owes.
fn spill<A: Amount>(mut state: State<A>, stock: &A) -> (State<A>, A) {
    if state.owes {
        core::hint::cold_path();
        return (state, A::zero());
    }
    let stocked = state.used.plus_saturating(stock).least(&state.limit);
    let keep = state.used.most(&state.floor).most(&stocked);
    // Told apart from the rest, so that the next word is made without waiting for `keep`.
    if state.held.at_most(&keep) {
        return (state, A::zero());
    }
    core::hint::cold_path();
    let spilled = state.held.above(&keep);
    state.held = keep;
    (state, spilled)
}

/// How far `used + n` would pass the limit. Past the range of a field it passes every limit.
fn over_limit<A: Amount>(used: &A, n: &A, limit: &A) -> Option<A> {
    if used.plus(n).is_some_and(|sum| sum.at_most(limit)) {
        return None;
    }
    Some(n.above(&limit.above(used)).plus_saturating(&used.above(limit)))
}

/// How far the use may rise: what a budget that owes has idle above its floor is not its own.
fn usable<A: Amount>(state: &State<A>) -> A {
    if state.owes {
        core::hint::cold_path();
        state.used.most(&state.floor)
    } else {
        state.held.clone()
    }
}

/// How much of `floor` comes without bytes of its own to a budget that owes. What it holds above its floor is
/// owed, be it in use or not: a floor raised on top of that would be bytes promised twice, and a debt that is
/// never paid.
fn floor_without_bytes<A: Amount>(state: &State<A>, floor: &A, bytes: &A) -> A {
    if state.owes { floor.above(bytes) } else { A::zero() }
}

/// Takes `n` into use. Needs `used + n <= min(held, limit)`, and, of a budget that owes,
/// `used + n <= floor`: what it has idle beyond that is not its own.
pub(crate) fn charge<A: Amount>(mut state: State<A>, n: &A) -> Step<A, ()> {
    not_closed(&state)?;
    if let Some(by) = over_limit(&state.used, n, &state.limit) {
        return Err(Refusal::OverLimit(by));
    }
    let used = state.used.plus(n).ok_or(Refusal::OutOfRange)?;
    let usable = usable(&state);
    if !used.at_most(&usable) {
        return Err(Refusal::Short(used.above(&usable)));
    }
    state.used = used;
    Ok((state, ()))
}

/// Gives `n` back from use. What is then held above the use, the floor and `stock` goes to the
/// parent: the amount returned.
pub(crate) fn uncharge<A: Amount>(mut state: State<A>, n: &A, stock: &A) -> Step<A, A> {
    state.used = state.used.minus(n).ok_or(Refusal::OutOfRange)?;
    Ok(spill(state, stock))
}

/// [`uncharge`] of a budget that keeps all it holds and owes nothing, refused where it does not: what is looked at is
/// little, and the next word is made without waiting for it.
pub(crate) fn uncharge_and_keep<A: Amount>(mut state: State<A>, n: &A, stock: &A) -> Step<A, ()> {
    if state.owes {
        return Err(Refusal::Spills);
    }
    state.used = state.used.minus(n).ok_or(Refusal::OutOfRange)?;
    let idle = state.held.minus(&state.used).ok_or(Refusal::OutOfRange)?;
    let is_stock = idle.at_most(stock) && state.held.at_most(&state.limit);
    if is_stock || state.held.at_most(&state.floor) { Ok((state, ())) } else { Err(Refusal::Spills) }
}

/// A parent gives a child `n` bytes and room for `floor` of guarantee: a [`charge`] whose floor
/// rises with the child's, so that a parent's floor covers those of its children.
pub(crate) fn delegate<A: Amount>(state: State<A>, n: &A, floor: &A) -> Step<A, ()> {
    let usable = usable(&state);
    delegate_within(state, n, floor, &usable, &A::zero())
}

/// [`refill`] of `credit` and [`delegate`] in one step: what was fetched is used before anything else.
pub(crate) fn refill_and_delegate<A: Amount>(state: State<A>, credit: &A, n: &A, floor: &A) -> Step<A, ()> {
    let usable = usable(&state).plus(credit).ok_or(Refusal::OutOfRange)?;
    // The bytes bring the floor they carry to this node, and `delegate` needs that much again of it
    // only for a child: the floor rises once.
    let (state, ()) = refill(state, credit, &A::zero())?;
    delegate_within(state, n, floor, &usable, credit)
}

fn delegate_within<A: Amount>(state: State<A>, n: &A, floor: &A, usable: &A, credit: &A) -> Step<A, ()> {
    not_closed(&state)?;
    if let Some(by) = over_limit(&state.used, n, &state.limit) {
        return Err(Refusal::OverLimit(by));
    }
    let used = state.used.plus(n).ok_or(Refusal::OutOfRange)?;
    let raised = state.floor.plus(floor).ok_or(Refusal::OutOfRange)?;
    let needed = used.most(&raised);
    if !needed.at_most(&state.limit) {
        return Err(Refusal::OverLimit(needed.above(&state.limit)));
    }
    let short = needed.above(usable).most(&floor_without_bytes(&state, floor, credit));
    if !short.at_most(&A::zero()) {
        return Err(Refusal::Short(short));
    }
    Ok((State { used, floor: raised, ..state }, ()))
}

/// The reverse of [`delegate`]: an [`uncharge`] that also lowers the floor.
pub(crate) fn undelegate<A: Amount>(mut state: State<A>, n: &A, floor: &A, stock: &A) -> Step<A, A> {
    state.floor = state.floor.minus(floor).ok_or(Refusal::OutOfRange)?;
    uncharge(state, n, stock)
}

/// Takes credit over from the parent: `held += n`, and the floor it carries. Needs
/// `held + n <= limit`.
pub(crate) fn refill<A: Amount>(state: State<A>, n: &A, floor: &A) -> Step<A, ()> {
    receive(state, n, floor, &A::zero())
}

/// Takes over `n` bytes with the floor and the limit that come with them.
fn receive<A: Amount>(mut state: State<A>, n: &A, floor: &A, limit: &A) -> Step<A, ()> {
    not_closed(&state)?;
    state.limit = state.limit.plus(limit).ok_or(Refusal::OutOfRange)?;
    let held = state.held.plus(n).ok_or(Refusal::OutOfRange)?;
    // Room that moves whole may come to a borrower that is above a limit set lower; its excess
    // then stays as it is. Anything else must fit.
    if !n.at_most(limit) && !held.at_most(&state.limit) {
        return Err(Refusal::OverLimit(held.above(&state.limit)));
    }
    state.held = held;
    state.floor = state.floor.plus(floor).ok_or(Refusal::OutOfRange)?;
    if !state.floor.at_most(&state.limit) {
        return Err(Refusal::OverLimit(state.floor.above(&state.limit)));
    }
    let short = state.floor.above(&state.held).most(&floor_without_bytes(&state, floor, n));
    if !short.at_most(&A::zero()) {
        return Err(Refusal::Short(short));
    }
    Ok((state, ()))
}

/// Gives up to `n` of the stock back. Returns what was given, which is nothing only where the
/// stock is empty or is owed.
pub(crate) fn release<A: Amount>(mut state: State<A>, n: &A) -> Step<A, A> {
    let given = if state.owes { A::zero() } else { state.stock().least(n) };
    state.held = state.held.minus(&given).ok_or(Refusal::OutOfRange)?;
    Ok((state, given))
}

/// Moves guaranteed room out, whole: `held`, `floor` and `limit` each less `n`. Needs `n` idle and
/// `n` guaranteed, so the sum of floors is conserved and no third party can sweep it on its way.
pub(crate) fn lend<A: Amount>(mut state: State<A>, n: &A) -> Step<A, ()> {
    not_closed(&state)?;
    let lendable = if state.owes { A::zero() } else { state.credit().least(&state.floor) };
    if !n.at_most(&lendable) {
        return Err(Refusal::NotIdle(lendable));
    }
    state.held = state.held.minus(n).ok_or(Refusal::OutOfRange)?;
    state.floor = state.floor.minus(n).ok_or(Refusal::OutOfRange)?;
    state.limit = state.limit.minus(n).ok_or(Refusal::OutOfRange)?;
    Ok((state, ()))
}

/// Takes room that was lent: `held`, `floor` and `limit` each more `n`. What comes back to a lender
/// comes by it too.
pub(crate) fn borrow<A: Amount>(state: State<A>, n: &A) -> Step<A, ()> {
    receive(state, n, n, n)
}

/// A parent of the lender passes room on, upwards: what [`lend`] does, of bytes that are in use by the
/// child they come from.
pub(crate) fn pass_up<A: Amount>(mut state: State<A>, n: &A) -> Step<A, ()> {
    not_closed(&state)?;
    state.used = state.used.minus(n).ok_or(Refusal::OutOfRange)?;
    state.held = state.held.minus(n).ok_or(Refusal::OutOfRange)?;
    state.floor = state.floor.minus(n).ok_or(Refusal::OutOfRange)?;
    state.limit = state.limit.minus(n).ok_or(Refusal::OutOfRange)?;
    Ok((state, ()))
}

/// A parent of the borrower passes room on, downwards: what [`borrow`] does, of bytes that are in use
/// by the child they go to.
pub(crate) fn pass_down<A: Amount>(state: State<A>, n: &A) -> Step<A, ()> {
    let (mut state, ()) = receive(state, n, n, n)?;
    state.used = state.used.plus(n).ok_or(Refusal::OutOfRange)?;
    Ok((state, ()))
}

/// Takes `n` that was lent to this budget back: what is idle of it at once, whole, which is returned.
/// For what is in use the floor and the limit fall now, and what is held when it becomes idle. What is
/// idle and owed already goes to whom it was owed first.
pub(crate) fn recall<A: Amount>(mut state: State<A>, n: &A) -> Step<A, A> {
    not_closed(&state)?;
    let idle = usable(&state).above(&state.used).least(n);
    state.floor = state.floor.minus(n).ok_or(Refusal::OutOfRange)?;
    state.limit = state.limit.minus(n).ok_or(Refusal::OutOfRange)?;
    state.held = state.held.minus(&idle).ok_or(Refusal::OutOfRange)?;
    state.owes = state.owes || !n.at_most(&idle);
    Ok((state, idle))
}

/// [`recall`] of as much of `n` as is idle, so that no debt comes of it. Returns how much that is.
pub(crate) fn recall_idle<A: Amount>(state: State<A>, n: &A) -> Step<A, A> {
    let most = usable(&state).above(&state.used);
    recall(state, &most.least(n))
}

/// Pays a debt of `debt` from what is idle above the floor. Returns what was paid, and, when nothing
/// is owed any more, what is then held above the use, the floor and `stock`, for the parent.
pub(crate) fn settle_debt<A: Amount>(mut state: State<A>, debt: &A, stock: &A) -> Step<A, (A, A)> {
    let paid = state.stock().least(debt);
    state.held = state.held.minus(&paid).ok_or(Refusal::OutOfRange)?;
    state.owes = !debt.at_most(&paid);
    let (state, spilled) = spill(state, stock);
    Ok((state, (paid, spilled)))
}

/// Sets the limit: any value at or above the floor, also one below what is used. Takes back what
/// is idle above it, unless it is owed: the amount returned.
pub(crate) fn set_limit<A: Amount>(mut state: State<A>, limit: &A) -> Step<A, A> {
    not_closed(&state)?;
    if !state.floor.at_most(limit) {
        return Err(Refusal::BelowFloor(state.floor));
    }
    state.limit = limit.clone();
    if state.owes {
        return Ok((state, A::zero()));
    }
    let keep = state.used.most(limit);
    let spilled = state.held.above(&keep);
    state.held = state.held.least(&keep);
    Ok((state, spilled))
}

/// Sets the total of the root, whose parent is the machine: [`set_limit`], and what is missing to
/// the new limit is held at once.
pub(crate) fn set_total<A: Amount>(state: State<A>, total: &A) -> Step<A, ()> {
    let (mut state, _) = set_limit(state, total)?;
    state.held = state.held.most(total);
    Ok((state, ()))
}

/// Lowers the floor by `n`. What is then held without need goes to the parent: the amount returned.
pub(crate) fn lower_floor<A: Amount>(mut state: State<A>, n: &A, stock: &A) -> Step<A, A> {
    state.floor = state.floor.minus(n).ok_or(Refusal::OutOfRange)?;
    Ok(spill(state, stock))
}

/// Closes the budget. Needs nothing in use. Returns what it held and its floor, which go to the
/// parent.
pub(crate) fn retire<A: Amount>(state: State<A>) -> Step<A, (A, A)> {
    not_closed(&state)?;
    if !state.used.at_most(&A::zero()) {
        return Err(Refusal::InUse(state.used));
    }
    let given = (state.held.clone(), state.floor.clone());
    Ok((State { closed: true, ..State::open(A::zero(), state.version) }, given))
}

#[cfg(all(test, not(loom)))]
mod tests;
