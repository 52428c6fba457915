//! What the crates ask for: one trace per seed, the same for every policy.
//!
//! Each crate is idle and busy in turn, for random lengths of time. Linear memory does not shrink, so it is
//! instances that come, grow page by page, and go; one small instance of each crate stays all the time.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Crates that share the pool.
pub const CRATES: usize = 8;

/// Steps of a run.
pub const STEPS: usize = 600;

/// The pool, in pages: half the sum of the crates' peaks.
pub const POOL: usize = 8192;

/// How long a crate is busy at a time, in steps: at least, and at most.
const BUSY: [usize; 2] = [30, 90];

/// How long it is idle in between.
const IDLE: [usize; 2] = [15, 45];

/// The part of the crate's peak that a busy phase reaches at least, in hundredths.
const LEAST_PEAK: usize = 60;

/// Instances of one busy phase, at most.
const INSTANCES: usize = 8;

/// The part of its peak with which an instance begins, and that which a crate's resident instance has of the
/// crate's.
const PART: usize = 8;

/// One instance and what it wants, whether it gets it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Whose it is.
    pub owner: usize,
    begins: usize,
    ends: usize,
    /// Steps until it wants its peak.
    growth: usize,
    /// Pages without which it cannot begin.
    pub least: usize,
    /// Pages at its peak.
    peak: usize,
}

impl Instance {
    /// The pages it wants at a step.
    pub fn wants(&self, step: usize) -> usize {
        if !(self.begins..self.ends).contains(&step) {
            return 0;
        }
        let age = (step - self.begins).min(self.growth);
        self.least + (self.peak - self.least) * age / self.growth.max(1)
    }
}

/// Everything the crates want, at every step.
pub struct Demand {
    /// In the order in which they were drawn.
    pub instances: Vec<Instance>,
    /// The instances in the order in which they ask, for each step.
    pub turns: Vec<Vec<usize>>,
}

impl Demand {
    /// The trace of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        // The largest crate's peak may be four times the smallest one's.
        let weights: [usize; CRATES] = std::array::from_fn(|_| random.random_range(100..=400));
        let peaks = shares(2 * POOL, &weights);
        let mut instances = Vec::new();
        for (owner, peak) in peaks.into_iter().enumerate() {
            busy_and_idle(&mut random, owner, peak, &mut instances);
        }
        let turns = (0..STEPS).map(|step| {
            let mut turn: Vec<_> = (0..instances.len()).filter(|&at| instances[at].wants(step) > 0).collect();
            turn.shuffle(&mut random);
            turn
        });
        let turns = turns.collect();
        Self { instances, turns }
    }

    /// The pages each crate wants, at each step.
    pub fn by_crate(&self) -> Vec<[usize; CRATES]> {
        let at = |step: usize| {
            let mut wants = [0; CRATES];
            for &instance in &self.turns[step] {
                let instance = &self.instances[instance];
                wants[instance.owner] += instance.wants(step);
            }
            wants
        };
        (0..STEPS).map(at).collect()
    }
}

/// The life of one crate. Its first busy phase reaches its peak.
fn busy_and_idle(random: &mut Xoshiro256PlusPlus, owner: usize, peak: usize, instances: &mut Vec<Instance>) {
    let resident = peak / PART;
    instances.push(Instance { owner, begins: 0, ends: STEPS, growth: 0, least: resident, peak: resident });
    let lasts =
        |random: &mut Xoshiro256PlusPlus, [least, most]: [usize; 2]| random.random_range(least..=most);
    // Half of them begin busy.
    let mut begins = if owner.is_multiple_of(2) { 0 } else { lasts(random, IDLE) };
    let mut most = peak - resident;
    while begins < STEPS {
        let length = lasts(random, BUSY);
        let weights: Vec<_> =
            (0..random.random_range(1..=INSTANCES)).map(|_| random.random_range(1..=8)).collect();
        // Each comes in the first third, has its peak in the second, and goes in the last.
        let third = length / 3;
        for pages in shares(most, &weights) {
            let waits = random.random_range(0..third);
            let growth = random.random_range(third - waits..=2 * third - waits);
            let ends = begins + random.random_range(2 * third + 1..=length);
            let least = (pages / PART).max(1);
            instances.push(Instance { owner, begins: begins + waits, ends, growth, least, peak: pages });
        }
        begins += length + lasts(random, IDLE);
        most = (peak - resident) * random.random_range(LEAST_PEAK..=100) / 100;
    }
}

/// Divides `whole` in proportion to `weights`; what rounding leaves goes to the last.
fn shares(whole: usize, weights: &[usize]) -> Vec<usize> {
    let sum: usize = weights.iter().sum();
    let mut shares: Vec<_> = weights.iter().map(|weight| whole * weight / sum).collect();
    let rest = whole - shares.iter().sum::<usize>();
    if let Some(last) = shares.last_mut() {
        *last += rest;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_half_of_the_summed_peaks_and_each_crate_is_idle_at_times() {
        for seed in 1..=20 {
            let wants = Demand::new(seed).by_crate();
            let peak = |owner: usize| wants.iter().map(|at| at[owner]).max().unwrap();
            assert_eq!((0..CRATES).map(peak).sum::<usize>(), 2 * POOL, "seed {seed}");
            for owner in 0..CRATES {
                let idle = wants.iter().filter(|at| at[owner] == peak(owner) / PART).count();
                assert!((STEPS / 10..STEPS * 2 / 3).contains(&idle), "seed {seed}, crate {owner}: {idle}");
            }
        }
    }

    #[test]
    fn an_instance_begins_with_its_least_never_shrinks_and_has_its_peak_before_it_ends() {
        let demand = Demand::new(1);
        assert!(demand.instances.len() > 100);
        for instance in &demand.instances {
            assert_eq!(instance.wants(instance.begins), instance.least, "{instance:?}");
            for step in instance.begins + 1..instance.ends {
                assert!(instance.wants(step) >= instance.wants(step - 1), "{instance:?}");
            }
            assert_eq!(instance.wants(instance.ends - 1), instance.peak, "{instance:?}");
            assert_eq!(instance.wants(instance.ends), 0);
        }
    }

    #[test]
    fn a_seed_is_a_trace() {
        assert_eq!(Demand::new(7).instances, Demand::new(7).instances);
        assert_ne!(Demand::new(7).instances, Demand::new(8).instances);
    }
}
