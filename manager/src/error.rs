//! What can go wrong, as data: which crate, how much was asked, which limit, what is used, what was
//! free; each says what would be right.

use crate::budget::{CrateId, CrateName};
use crate::provider::ProviderError;
use crate::sharing::LoanList;
use crate::verification::Violation;

/// Why an operation on a budget or on memory was refused. Whatever it was, it changed nothing. All
/// amounts are bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The crate's own limit.
    #[error(
        "crate `{name}` asked for {asked} bytes: {used} of its limit of {limit} are in use, {free} are free; \
         a limit of {} would do", used.saturating_add(*asked)
    )]
    OverLimit {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// Bytes asked.
        asked: usize,
        /// Bytes in use.
        used: usize,
        /// Bytes it may use.
        limit: usize,
        /// Bytes it could still use: `limit - used`.
        free: usize,
    },
    /// The crate is within its limit, but a parent of it, or the pool, has not enough left.
    #[error(
        "crate `{name}` asked for {asked} bytes: `{holder}` has given out {used} of {limit} and has {free} free; \
         guarantee the crate what it needs, or give `{holder}` {} more", asked.saturating_sub(*free)
    )]
    PoolExhausted {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// The parent that had too little; the global budget is called `pool`.
        holder: CrateName,
        /// Bytes asked.
        asked: usize,
        /// Bytes the holder has given out.
        used: usize,
        /// The holder's limit.
        limit: usize,
        /// Bytes the holder had left.
        free: usize,
    },
    /// Others wait for bytes of a parent, of the pool or of the crate itself, and go first.
    #[error(
        "crate `{name}` asked for {asked} bytes: others wait for bytes of `{holder}` and go first; wait as well, with \
         `charge_or_wait`, or guarantee the crate what it needs"
    )]
    Queued {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// Whose bytes they wait for; the global budget is called `pool`.
        holder: CrateName,
        /// Bytes asked.
        asked: usize,
    },
    /// So many wait for bytes already that no more may.
    #[error(
        "crate `{name}` cannot wait for bytes: {waiting} requests wait, of at most {most} in {whole}; \
         let some of them end first"
    )]
    TooManyWaiting {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// Requests that wait.
        waiting: usize,
        /// Requests that may.
        most: usize,
        /// What of: `one crate` or `all crates together`.
        whole: &'static str,
    },
    /// The budget allowed it, but no provider had the memory.
    #[error("crate `{name}` asked for {asked} bytes within its budget: {source}")]
    Provider {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// Bytes asked.
        asked: usize,
        /// What the last provider tried said.
        source: ProviderError,
    },
    /// More bytes than a manager of this total can count.
    #[error("{asked} bytes were asked; a manager of this total counts up to {largest}")]
    TooLarge {
        /// Bytes asked.
        asked: usize,
        /// Bytes that can be counted.
        largest: usize,
    },
    /// No such crate was ever registered with this manager.
    #[error("crate {id} is not registered; use the id that `register` returned")]
    UnknownCrate {
        /// The id.
        id: CrateId,
    },
    /// The crate was retired.
    #[error("crate {id} has been retired; register it again and use the new id")]
    StaleCrate {
        /// The id.
        id: CrateId,
    },
    /// A check of the crate failed, so it is charged for nothing any more.
    #[error(
        "crate `{name}` was closed because a check of it failed; free what it has, retire it, and see \
         `VerificationEngine::last_violation`"
    )]
    CrateClosed {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
    },
    /// The id was made by another manager.
    #[error("crate {id} belongs to another manager; use the one that registered it")]
    ForeignCrate {
        /// The id.
        id: CrateId,
    },
    /// A crate with bytes in use, or with crates below it, cannot be retired.
    #[error(
        "crate `{name}` cannot be retired: {used} bytes are in use and {children} crates are below it; \
         free those first"
    )]
    InUse {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// Bytes in use, or given out to crates below it.
        used: usize,
        /// Crates below it.
        children: usize,
    },
    /// A crate that has lent, or borrowed, cannot be retired.
    #[error("crate `{name}` cannot be retired: {loans}; recall or repay those first")]
    OpenLoans {
        /// The crate.
        id: CrateId,
        /// Its name.
        name: CrateName,
        /// The loans, as many as fit.
        loans: LoanList,
    },
    /// No rule allows such a loan.
    #[error(
        "`{borrower}` may borrow {most} bytes of `{lender}`, {lent} are lent, and {asked} were asked; allow more with \
         `SharingMatrix::allow`"
    )]
    LendingNotAllowed {
        /// Who would lend.
        lender: CrateName,
        /// Who would borrow.
        borrower: CrateName,
        /// Bytes asked.
        asked: usize,
        /// Bytes the rule allows at one time; 0 where there is no rule.
        most: usize,
        /// Bytes lent by it already.
        lent: usize,
    },
    /// What is lent is the lender's own guarantee, and it must be idle.
    #[error(
        "`{lender}` was asked to lend {asked} bytes, and of its guarantee {lendable} are idle and not lent yet; \
         guarantee it more, or wait until it uses less"
    )]
    NothingToLend {
        /// Who would lend.
        lender: CrateName,
        /// Bytes asked.
        asked: usize,
        /// Bytes it could lend.
        lendable: usize,
    },
    /// A guarantee was asked below what is lent of it.
    #[error("`{name}` has lent {lent} bytes of its guarantee, so that cannot be {asked}; recall them first")]
    GuaranteeLent {
        /// The crate.
        name: CrateName,
        /// The guarantee asked, in bytes.
        asked: usize,
        /// Bytes lent.
        lent: usize,
    },
    /// A limit was asked below what is guaranteed.
    #[error(
        "`{name}` is guaranteed {guaranteed} bytes (with those of the crates below it), so its limit cannot be \
         {asked}; lower the guarantees first"
    )]
    LimitBelowGuarantee {
        /// The crate, or `pool`.
        name: CrateName,
        /// The limit asked, in bytes.
        asked: usize,
        /// The guarantee of it and of what is below it, in bytes.
        guaranteed: usize,
    },
    /// A guarantee was asked that is above a limit, of the crate or of one above it.
    #[error("a guarantee of {asked} bytes for `{name}` does not fit the limit of `{holder}` ({limit} bytes)")]
    GuaranteeAboveLimit {
        /// The crate.
        name: CrateName,
        /// Whose limit it does not fit.
        holder: CrateName,
        /// The guarantee asked, in bytes.
        asked: usize,
        /// That limit, in bytes.
        limit: usize,
    },
    /// A guarantee was asked for which nothing is left.
    #[error(
        "a guarantee of {asked} bytes for `{name}` cannot be kept: `{holder}` has {free} bytes left to give"
    )]
    GuaranteeUnavailable {
        /// The crate.
        name: CrateName,
        /// Who has too little.
        holder: CrateName,
        /// The guarantee asked, in bytes.
        asked: usize,
        /// What the holder has left, in bytes.
        free: usize,
    },
    /// Every slot is taken.
    #[error(
        "{capacity} crates are registered, and there is room for no more; retire one, or give more storage"
    )]
    TooManyCrates {
        /// Crates there can be.
        capacity: usize,
    },
    /// The tree of budgets would be too deep.
    #[error("`{name}` is {depth} levels below the pool, and crates may be at most {deepest} below it")]
    TooDeep {
        /// The parent that was to get a child.
        name: CrateName,
        /// How deep it is.
        depth: usize,
        /// How deep a crate may be.
        deepest: usize,
    },
    /// A name that is empty, too long, or contains a NUL.
    #[error("a crate's name has 1 to {} bytes and no NUL; this one has {len} bytes", CrateName::MAX_LEN)]
    InvalidName {
        /// Its length in bytes.
        len: usize,
    },
    /// A setting of the builder that cannot be.
    #[error("{what}")]
    InvalidConfig {
        /// What is wrong and what would be right.
        what: &'static str,
    },
    /// No crate is in scope on this thread, and no manager is installed.
    #[error(
        "no crate is in scope on this thread: enter one with `Scope::enter`, or install a default manager"
    )]
    NoScope,
    /// A check of the [`VerificationEngine`](crate::verification::VerificationEngine) failed.
    #[error("{0}")]
    Violation(#[from] Violation),
}

/// What the operations of this crate return.
pub type Result<T> = core::result::Result<T, MemoryError>;
