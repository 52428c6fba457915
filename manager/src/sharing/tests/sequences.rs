//! Random operations one after another, more bytes and crates than all states of can be had; each case
//! shrinks to the fewest operations.

use proptest::prelude::*;

use super::audit;
use super::states::{Op, Setting, World};

const CRATES: &[(Option<usize>, u32, u32)] = &[
    (None, 120, 10),
    (Some(0), 60, 40),
    (Some(0), 30, 0),
    (None, 80, 0),
    (Some(3), 70, 5),
    (Some(4), 40, 20),
    (Some(4), 20, 0),
    (None, 100, 50),
];

/// Lenders, borrowers, most; whether the coordinator may; with a deadline. Siblings, strangers, a parent on
/// either side, and a ring.
const RULES: &[(usize, usize, u32, bool, bool)] = &[
    (1, 2, 30, true, false),
    (1, 6, 30, false, true),
    (5, 6, 15, true, true),
    (5, 1, 10, false, false),
    (7, 1, 40, true, true),
    (7, 2, 40, false, false),
    (7, 3, 30, false, true),
    (0, 7, 10, true, false),
    (6, 5, 20, false, false),
    (2, 7, 20, true, false),
];

fn setting(batch: u32) -> Setting {
    Setting {
        total: 200,
        crates: CRATES,
        rules: RULES,
        amounts: &[1, 4, 13, 40],
        limits: &[
            (0, 90),
            (0, 120),
            (1, 45),
            (1, 60),
            (2, 3),
            (2, 30),
            (3, 30),
            (3, 80),
            (4, 70),
            (6, 20),
            (7, 55),
        ],
        guarantees: &[
            (0, 0),
            (0, 10),
            (1, 15),
            (1, 40),
            (2, 10),
            (2, 0),
            (5, 5),
            (6, 10),
            (6, 0),
            (7, 30),
            (7, 50),
        ],
        handles: 8,
        retires: &[1, 2, 5, 6, 7],
        batch,
    }
}

/// Says what was done, where it ended badly.
struct Done(Vec<Op>);

impl Drop for Done {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("after {:?}", self.0);
        }
    }
}

fn run(batch: u32, choices: &[u16]) {
    let setting = setting(batch);
    let mut world = World::new(&setting);
    let mut done = Done(Vec::new());
    for &choice in choices {
        let ops = world.ops();
        let op = ops[usize::from(choice) % ops.len()];
        done.0.push(op);
        world.apply(op);
        audit(&world.tracker, &world.hosts(), batch.into());
    }
    world.ends_well();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn after_any_operations_words_and_book_agree_and_everything_ends(
        choices in prop::collection::vec(any::<u16>(), 1..150), batch in prop_oneof![Just(0u32), Just(7), Just(40)],
    ) {
        run(batch, &choices);
    }
}
