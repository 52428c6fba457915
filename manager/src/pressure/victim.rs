//! Whom to evict: the host's choice.

use super::rank::Candidate;

/// Chooses whom to evict. A function of the needed bytes and the ranked crates is one.
pub trait VictimPolicy {
    /// One of the `ranked`, which are those with the most to give back first, so that `needed` bytes come back; or `None`
    /// to evict nobody.
    fn choose<'c>(&self, needed: usize, ranked: &'c [Candidate]) -> Option<&'c Candidate>;
}

impl<F> VictimPolicy for F
where
    F: for<'c> Fn(usize, &'c [Candidate]) -> Option<&'c Candidate>,
{
    fn choose<'c>(&self, needed: usize, ranked: &'c [Candidate]) -> Option<&'c Candidate> {
        self(needed, ranked)
    }
}

/// The default policy: of those whose eviction is enough, the one that gives back least; where none is, the one that
/// gives back most. Never one that gives back nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SmallestThatHelps;

impl VictimPolicy for SmallestThatHelps {
    fn choose<'c>(&self, needed: usize, ranked: &'c [Candidate]) -> Option<&'c Candidate> {
        let helpful = || ranked.iter().filter(|one| one.returns > 0);
        let enough = helpful().filter(|one| one.returns >= needed).min_by_key(|one| (one.returns, one.used));
        enough.or_else(|| helpful().max_by_key(|one| (one.returns, core::cmp::Reverse(one.used))))
    }
}
