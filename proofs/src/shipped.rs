//! The sources that ship, as they are: included by path, so that what is proved is what the manager
//! compiles. `word` says how large a field is; what it packs is tested, not proved.

#![allow(dead_code, unfulfilled_lint_expectations, reason = "the manager uses more, or less, of them")]

#[path = "../../manager/src/budget/amount.rs"]
pub(crate) mod amount;
#[path = "../../manager/src/budget/state.rs"]
pub(crate) mod state;
// Its module of tests is not where rustfmt would look for it from here.
#[rustfmt::skip]
#[path = "../../manager/src/budget/transition.rs"]
pub(crate) mod transition;
#[path = "../../manager/src/budget/word.rs"]
pub(crate) mod word;
