//! Many threads lend, borrow, charge, recall, set and retire at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;

use super::{Host, assert_whole, audit};
use crate::{
    Charge, CoordinatorCounts, CrateId, CrateSettings, LendingRule, Loan, LoanState, LoanTerms, MemoryError,
    UnifiedMemoryManager,
};

static MILLIS: AtomicU64 = AtomicU64::new(0);

const TOTAL: usize = 60_000;
const THREADS: usize = 4;
const DEADLINE: Duration = Duration::from_millis(1);

/// `WRT_SEED=7 cargo test stress` runs what printed it again, as far as threads can.
fn seed() -> u64 {
    let given = std::env::var("WRT_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
    })
}

fn choices(seed: u64, thread: usize) -> TestRng {
    let mut bytes = [thread as u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// The crates of a run: a customer with two guests, one with a nested one, and three directly below the pool.
struct Family<'m> {
    manager: &'m UnifiedMemoryManager,
    ids: Vec<CrateId>,
    /// Never lends and never borrows: what it is guaranteed it always gets.
    keeper: CrateId,
    /// Crates that came, and could not go yet.
    stayed: Mutex<Vec<CrateId>>,
}

const KEPT: usize = 4_000;

impl<'m> Family<'m> {
    fn new(manager: &'m UnifiedMemoryManager) -> Self {
        let make = |name: &str, parent: Option<CrateId>, limit: usize, guarantee: usize| {
            let settings = CrateSettings::new().limit(limit).guarantee(guarantee);
            manager.register(name, parent.map_or(settings, |parent| settings.parent(parent))).unwrap()
        };
        let left = make("left", None, 30_000, 1_000);
        let right = make("right", None, 30_000, 0);
        let inner = make("inner", Some(right), 25_000, 1_000);
        let ids = vec![
            make("a", Some(left), 12_000, 6_000),
            make("b", Some(left), 9_000, 1_000),
            make("c", Some(inner), 12_000, 5_000),
            make("d", Some(inner), 6_000, 0),
            make("e", None, 20_000, 8_000),
            make("f", None, 8_000, 0),
            make("g", Some(right), 6_000, 2_000),
            left,
            right,
            inner,
        ];
        let keeper = make("keeper", Some(inner), 8_000, KEPT);
        let family = Self { manager, ids, keeper, stayed: Mutex::new(Vec::new()) };
        for &from in &family.ids {
            for &to in &family.ids {
                family.allow(from, to, 5_000, from.index % 2 == 0, to.index % 2 == 0);
            }
        }
        family
    }

    fn allow(&self, from: CrateId, to: CrateId, most: usize, automatic: bool, evictable: bool) {
        let rule = LendingRule::new(most);
        let rule = if automatic { rule.automatic() } else { rule };
        let rule = if evictable { rule.terms(LoanTerms::Evictable { deadline: DEADLINE }) } else { rule };
        match self.manager.sharing().allow(from, to, rule) {
            Ok(()) | Err(MemoryError::InvalidConfig { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// One thread's part: `rounds` operations at random.
fn churn<'m>(
    family: &Family<'m>,
    mut rng: TestRng,
    rounds: usize,
    denied: &AtomicUsize,
) -> (Vec<Charge<'m>>, Vec<Loan<'m>>) {
    let manager = family.manager;
    let mut charges: Vec<Charge<'m>> = Vec::new();
    let mut loans: Vec<Loan<'m>> = Vec::new();
    for _ in 0..rounds {
        let id = family.ids[rng.random_range(0..family.ids.len())];
        let other = family.ids[rng.random_range(0..family.ids.len())];
        match rng.random_range(0..100) {
            0..35 => match manager.charge(id, 0, rng.random_range(1..3_000)) {
                Ok(charge) => charges.push(charge),
                Err(MemoryError::OverLimit { .. } | MemoryError::PoolExhausted { .. }) => {
                    denied.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("{error}"),
            },
            35..65 if !charges.is_empty() => drop(charges.swap_remove(rng.random_range(0..charges.len()))),
            65..78 => match manager.borrow_from_crate(id, other, rng.random_range(1..3_000)) {
                Ok(loan) => loans.push(loan),
                Err(
                    MemoryError::LendingNotAllowed { .. }
                    | MemoryError::NothingToLend { .. }
                    | MemoryError::InvalidConfig { .. },
                ) => {}
                Err(error) => panic!("{error}"),
            },
            78..81 if !loans.is_empty() => {
                loans[rng.random_range(0..loans.len())].recall();
            }
            81..89 if !loans.is_empty() => drop(loans.swap_remove(rng.random_range(0..loans.len()))),
            89 => drop(manager.set_limit(id, rng.random_range(5_000..30_000))),
            90 => drop(manager.set_guarantee(id, rng.random_range(0..6_000))),
            91 => drop(manager.set_total(rng.random_range(TOTAL / 2..=TOTAL))),
            92 => drop(manager.coordinator().return_idle()),
            93 => {
                MILLIS.fetch_add(1, Ordering::Relaxed);
                while let Some(overdue) = manager.coordinator().next_overdue() {
                    manager.coordinator().evict(overdue.borrower).ok();
                }
            }
            94 => family.allow(id, other, rng.random_range(0..6_000), rng.random(), rng.random()),
            95 => manager.sharing().forbid(id, other).unwrap(),
            // A crate that comes, takes part and goes.
            96..98 => {
                let settings = CrateSettings::new().guarantee(rng.random_range(0..500)).parent(id);
                let Ok(guest) = manager.register("guest", settings) else { continue };
                let pair = if rng.random() { (guest, other) } else { (other, guest) };
                family.allow(pair.0, pair.1, 1_000, rng.random(), rng.random());
                let loan = manager.borrow_from_crate(pair.0, pair.1, rng.random_range(1..500));
                let charge = manager.charge(guest, 0, rng.random_range(1..1_000));
                if rng.random() {
                    assert!(charge.is_err() || manager.retire(guest).is_err(), "retired with bytes in use");
                }
                drop(charge);
                let gone = manager.retire(guest);
                if let (Ok(loan), Ok(())) = (&loan, &gone) {
                    // It may have ended already: recalled for its lender's own need.
                    let state = loan.info().state;
                    assert!(
                        matches!(state, LoanState::Repaid | LoanState::Evicted),
                        "retired with a loan open"
                    );
                }
                drop(loan);
                // What it lent may still be in use: then it stays until the end.
                if gone.is_err() {
                    family.stayed.lock().unwrap().push(guest);
                }
            }
            _ if charges.len() > 6 => charges.truncate(2),
            _ => {}
        }
        if charges.len() + loans.len() > 40 {
            charges.truncate(10);
            loans.truncate(10);
        }
    }
    (charges, loans)
}

/// A lender and a borrower that one thread alone charges, lends and recalls, in the midst of all others:
/// whatever those do, a charge that stays within the floor there is then is granted.
fn keep(family: &Family<'_>, parents: [CrateId; 2], mut rng: TestRng, over: &AtomicBool) -> usize {
    const OWN: [usize; 2] = [3_000, 500];
    let manager = family.manager;
    let mut pair = [family.keeper; 2];
    for at in 0..2 {
        let settings = CrateSettings::new().guarantee(OWN[at]).limit(OWN[at]).parent(parents[at]);
        pair[at] = loop {
            // Those above may be full, or promise all they have, for a while, or until all is over.
            match manager.register("pair", settings) {
                Ok(id) => break id,
                Err(_) if over.load(Ordering::Relaxed) => {
                    pair[..at].iter().for_each(|&id| manager.retire(id).unwrap());
                    return 0;
                }
                Err(_) => thread::yield_now(),
            }
        };
    }
    manager.sharing().allow(pair[0], pair[1], LendingRule::new(2_000)).unwrap();
    let mut rounds = 0;
    let mut charges: [Vec<Charge<'_>>; 2] = [vec![], vec![]];
    let mut loans: Vec<Loan<'_>> = Vec::new();
    let (mut made, mut ended) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        rounds += 1;
        let at = rng.random_range(0..2);
        let used: usize = charges[at].iter().map(Charge::bytes).sum();
        match rng.random_range(0..10) {
            0..4 => {
                // Only this thread lends and recalls, so nothing but what is repaid changes it, upwards.
                let before = manager.node(pair[at]).unwrap().floor;
                let Some(room) = before.checked_sub(used) else { continue };
                let n = rng.random_range(0..=room);
                charges[at].push(manager.charge(pair[at], 0, n).expect("within the floor"));
            }
            4..7 if !charges[at].is_empty() => {
                let which = rng.random_range(0..charges[at].len());
                drop(charges[at].swap_remove(which));
            }
            7 => {
                if let Ok(loan) = manager.borrow_from_crate(pair[0], pair[1], rng.random_range(1..1_000)) {
                    loans.push(loan);
                    made += 1;
                }
            }
            8 if !loans.is_empty() => {
                drop(loans.swap_remove(rng.random_range(0..loans.len())));
                ended += 1;
            }
            _ => charges[at].truncate(3),
        }
        let kept = manager.charge(family.keeper, 0, KEPT / 4).expect("within the guarantee");
        drop(kept);
    }
    drop(charges);
    ended += loans.len();
    drop(loans);
    assert_eq!(made, ended);
    for id in pair {
        let node = manager.node(id).unwrap();
        assert_eq!((node.used, node.lent, node.borrowed, node.owed), (0, 0, 0, 0), "{node:?}");
        manager.retire(id).unwrap();
    }
    rounds
}

fn run(seed: u64, stock: usize, operations: usize) -> CoordinatorCounts {
    println!("seed {seed}, stock {stock}: set WRT_SEED to run it again");
    MILLIS.store(0, Ordering::Relaxed);
    let clock = || Duration::from_millis(MILLIS.load(Ordering::Relaxed));
    let manager = UnifiedMemoryManager::builder().total(TOTAL).stock(stock).clock(clock).build().unwrap();
    let family = Family::new(&manager);
    let (over, denied, kept) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(0));
    /// Ends the keepers also when a churning thread panics.
    struct Over<'o>(&'o AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    // Now and then all stop with what they have, and everything is looked at.
    const PAUSES: usize = 5;
    for pause in 0..PAUSES {
        let left = thread::scope(|scope| {
            let (family, denied, kept) = (&family, &denied, &kept);
            // Siblings, and two that are far from each other.
            let (left, right, inner) = (family.ids[7], family.ids[8], family.ids[9]);
            let keeping: Vec<_> = [[left, left], [right, inner]]
                .into_iter()
                .enumerate()
                .map(|(at, parents)| {
                    let over = &over;
                    let rng = choices(seed ^ pause as u64, 100 + at);
                    scope.spawn(move || {
                        let rounds = keep(family, parents, rng, over);
                        *kept.lock().unwrap() += rounds;
                    })
                })
                .collect();
            let over = Over(&over);
            let churning: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let rng = choices(seed.wrapping_add(pause as u64), thread);
                    scope.spawn(move || churn(family, rng, operations / THREADS / PAUSES, denied))
                })
                .collect();
            let churned: Vec<_> = churning.into_iter().map(|thread| thread.join()).collect();
            drop(over);
            for thread in keeping {
                thread.join().unwrap();
            }
            churned.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        });
        over.store(false, Ordering::Relaxed);
        // Nothing is in transit; what is in use and lent stays so until all has been looked at.
        let charges = || left.iter().flat_map(|(charges, _)| charges);
        let hosts: Vec<_> = manager
            .nodes()
            .skip(1)
            .map(|node| {
                // The limit that was set last, whichever thread did.
                let slot = manager.tracker.slot(node.id.index);
                let shift = manager
                    .tracker
                    .book()
                    .with(|book| book.standing(slot.sharing.load(Ordering::SeqCst)).shift());
                let limit = i64::from(slot.budget.load().limit.get()) - shift;
                let own = charges()
                    .filter(|charge| charge.crate_id() == node.id)
                    .map(|charge| charge.bytes() as u64);
                Host { id: node.id, own: own.sum(), limit: limit as u64 }
            })
            .collect();
        audit(&manager.tracker, &hosts, stock as u64);
    }
    let counts = manager.coordinator().counts();
    println!(
        "{counts:?}, {} denied, {} rounds of keepers",
        denied.load(Ordering::Relaxed),
        kept.lock().unwrap()
    );
    manager.set_total(TOTAL).unwrap();
    let stayed = family.stayed.lock().unwrap();
    let mut left: Vec<_> = stayed.iter().chain(&family.ids).chain([&family.keeper]).copied().collect();
    // Children before their parents; what is lent by itself goes with whoever goes.
    for _ in 0..4 {
        left.retain(|&id| manager.retire(id).is_err());
    }
    assert_eq!(left, [], "not retired");
    let counts = manager.coordinator().counts();
    assert_eq!(counts.loans, counts.repaid + counts.evicted, "{counts:?}");
    assert_whole(&manager, TOTAL);
    counts
}

/// Over a million operations of the churning threads, besides those of the keepers.
#[test]
fn a_million_operations_across_threads_keep_every_guarantee_and_lose_no_byte() {
    let seed = seed();
    for (at, stock) in [0, 300, 5_000].into_iter().enumerate() {
        let counts = run(seed.wrapping_add(at as u64), stock, 350_000);
        assert!(counts.automatic > 100 && counts.recalled > 100 && counts.evicted > 0, "{counts:?}");
    }
}
