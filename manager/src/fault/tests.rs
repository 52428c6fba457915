//! Each call that may be refused, refused, one after another: in every step of every story the first, the second, the
//! third, until a run has no call left to refuse. A step that fails leaves all figures as they were and can be taken again;
//! one that does not is whole. In the end every byte is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec::Vec;

use super::{Call, fail_at, failed};
use crate::provider::{Image, PooledProvider, ProviderSelector, Request};
use crate::{
    Charge, CrateHandle, CrateId, CrateSettings, CrateVec, LendingRule, Loan, RawMemory, UnifiedMemoryManager,
};

const WASM_PAGE: usize = 65536;

/// What a story has made.
struct Stage<'m> {
    manager: &'m UnifiedMemoryManager,
    id: CrateId,
    other: CrateId,
    crates: Vec<CrateId>,
    memories: Vec<RawMemory<'m>>,
    images: Vec<Arc<Image>>,
    charges: Vec<Charge<'m>>,
    loans: Vec<Loan<'m>>,
    list: Option<CrateVec<'m, u64>>,
}

/// Whether it was done. A refusal is the only other end.
type Step = for<'m> fn(&mut Stage<'m>) -> bool;

struct Story {
    name: &'static str,
    pooled: bool,
    /// What its crates may keep.
    stock: usize,
    steps: &'static [Step],
}

fn make(stage: &mut Stage<'_>, request: Request, image: Option<usize>) -> bool {
    let Ok(cost) = stage.manager.cost(&request) else { return false };
    let Ok(charge) = stage.manager.charge(stage.id, request.size, cost) else { return false };
    let made = match image.map(|at| stage.images[at].clone()) {
        Some(image) => {
            let made = RawMemory::allocate_charged_with(&request, charge, &image);
            if let Ok(memory) = &made {
                assert_eq!(&memory.as_slice()[image.range()], image.as_slice());
            }
            made
        }
        None => {
            let made = RawMemory::allocate_charged(&request, charge);
            if let Ok(memory) = &made {
                assert!(memory.as_slice().iter().all(|&byte| byte == 0), "what another left");
            }
            made
        }
    };
    let made = made.map(|mut memory| {
        memory.as_mut_slice().fill(0xA5);
        stage.memories.push(memory);
    });
    made.is_ok()
}

fn grow(stage: &mut Stage<'_>, size: usize) -> bool {
    let memory = stage.memories.last_mut().unwrap();
    let was = memory.len();
    let grown = memory.grow(size).is_ok();
    let bytes = memory.as_mut_slice();
    assert_eq!(bytes.len(), if grown { size } else { was });
    assert!(bytes[..was].iter().all(|&byte| byte == 0xA5) && bytes[was..].iter().all(|&byte| byte == 0));
    bytes.fill(0xA5);
    grown
}

fn end(stage: &mut Stage<'_>) -> bool {
    stage.memories.pop();
    true
}

fn image(stage: &mut Stage<'_>, len: usize) -> bool {
    let made = Image::new(100, &std::vec![7; len]);
    made.map(|image| stage.images.push(image)).is_ok()
}

const GUARDED: Request = Request { size: 3 * WASM_PAGE, align: 4096, reserve: 16 * WASM_PAGE, guard: 4096 };
const SMALLER: Request = Request { size: 2 * WASM_PAGE, ..GUARDED };
const OPEN: Request = Request { guard: 0, ..GUARDED };

const STORIES: &[Story] = &[
    Story {
        name: "heap",
        pooled: false,
        stock: 0,
        steps: &[|stage| make(stage, Request::new(1000), None), end],
    },
    Story {
        name: "slab",
        pooled: false,
        stock: 1 << 17,
        steps: &[
            // Without places for what it frees it keeps nothing.
            |stage| {
                let handle = CrateHandle::new(stage.manager, stage.id).unwrap();
                handle.memory::<4096>().is_ok()
            },
            |stage| {
                let handle = CrateHandle::new(stage.manager, stage.id).unwrap();
                handle.memory::<4096>().is_ok_and(|memory| memory.iter().all(|&byte| byte == 0))
            },
        ],
    },
    Story {
        name: "collections",
        pooled: false,
        stock: 0,
        steps: &[
            |stage| {
                let handle = CrateHandle::new(stage.manager, stage.id).unwrap();
                handle.collection(4).map(|list| stage.list = Some(list)).is_ok()
            },
            |stage| {
                let list = stage.list.as_mut().unwrap();
                let before = list.len();
                while list.len() < 40 {
                    let len = list.len();
                    if list.try_push(len as u64).is_err() {
                        list.truncate(before);
                        return false;
                    }
                }
                list.iter().enumerate().all(|(at, &it)| at as u64 == it)
            },
        ],
    },
    Story {
        name: "mapped",
        pooled: false,
        stock: 0,
        steps: &[
            |stage| make(stage, GUARDED, None),
            |stage| grow(stage, 4 * WASM_PAGE),
            |stage| grow(stage, 9 * WASM_PAGE),
            end,
        ],
    },
    Story {
        name: "pooled, guarded",
        pooled: true,
        stock: 0,
        steps: &[
            |stage| make(stage, GUARDED, None),
            |stage| grow(stage, 9 * WASM_PAGE),
            end,
            // All of the slot that was just made as new, then less of it.
            |stage| make(stage, Request { size: 9 * WASM_PAGE, ..GUARDED }, None),
            end,
            |stage| make(stage, SMALLER, None),
            |stage| make(stage, GUARDED, None),
            end,
            end,
            |stage| stage.manager.trim(usize::MAX) < usize::MAX,
            |stage| make(stage, GUARDED, None),
        ],
    },
    Story {
        name: "pooled, open",
        pooled: true,
        stock: 0,
        steps: &[
            |stage| make(stage, OPEN, None),
            |stage| grow(stage, 9 * WASM_PAGE),
            end,
            |stage| make(stage, OPEN, None),
            end,
            |stage| stage.manager.trim(usize::MAX) < usize::MAX,
            |stage| make(stage, OPEN, None),
        ],
    },
    Story {
        name: "images",
        pooled: true,
        stock: 0,
        steps: &[
            |stage| image(stage, 5000),
            |stage| image(stage, 2 * WASM_PAGE),
            |stage| make(stage, GUARDED, Some(0)),
            |stage| make(stage, GUARDED, Some(1)),
            end,
            end,
            |stage| make(stage, GUARDED, Some(1)),
            end,
            |stage| {
                let image = stage.images[1].clone();
                stage.manager.forget(&image);
                true
            },
            |stage| make(stage, GUARDED, None),
            |stage| make(stage, OPEN, Some(0)),
        ],
    },
    Story {
        name: "crates",
        pooled: false,
        stock: 0,
        steps: &[|stage| {
            let before = stage.crates.len();
            while stage.crates.len() < 70 {
                match stage.manager.register("one more", CrateSettings::new().parent(stage.id)) {
                    Ok(id) => stage.crates.push(id),
                    Err(_) => {
                        stage.crates.drain(before..).for_each(|id| stage.manager.retire(id).unwrap());
                        return false;
                    }
                }
            }
            true
        }],
    },
    Story {
        name: "loans",
        pooled: false,
        stock: 0,
        steps: &[
            |stage| stage.manager.sharing().allow(stage.other, stage.id, LendingRule::new(5000)).is_ok(),
            |stage| {
                let lent = stage.manager.borrow_from_crate(stage.other, stage.id, 3000);
                lent.map(|loan| stage.loans.push(loan)).is_ok()
            },
            |stage| {
                let lent = stage.manager.borrow_from_crate(stage.other, stage.id, 1000);
                lent.map(|loan| stage.loans.push(loan)).is_ok()
            },
            |stage| {
                stage.loans.clear();
                true
            },
        ],
    },
    Story {
        name: "waiting",
        pooled: false,
        stock: 0,
        steps: &[
            |stage| {
                let free = stage.manager.pool().limit - stage.manager.pool().floor;
                let all = stage.manager.charge(stage.id, free, free);
                all.map(|charge| stage.charges.push(charge)).is_ok()
            },
            |stage| {
                let handle = CrateHandle::new(stage.manager, stage.id).unwrap();
                let mut waiting = handle.charge_or_wait(10, 10);
                waiting.poll_once().is_none()
            },
        ],
    },
];

/// What no refusal may change. What warm slots keep is left out: that comes and goes by itself.
fn figures(manager: &UnifiedMemoryManager) -> Vec<[usize; 7]> {
    let warm = |name: &str| name == "warm slots";
    let nodes = manager.nodes().skip(1).filter(|node| !warm(&node.name.to_string()));
    nodes
        .map(|n| {
            [n.used, n.requested, n.held, n.floor, n.limit, n.lent + n.borrowed + n.owed, n.waiting.into()]
        })
        .collect()
}

/// Runs a story; in its step `at` the `k`th call fails. Returns which that was, if there are as many.
fn run(story: &Story, at: usize, k: usize) -> Option<Call> {
    let providers = ProviderSelector::of_platform();
    let providers = if story.pooled { providers.with_pooled(PooledProvider::new()) } else { providers };
    let builder = UnifiedMemoryManager::builder().total(64 << 20).stock(story.stock).providers(providers);
    let manager = builder.build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    let other = manager.register("other", CrateSettings::new().guarantee(8000)).unwrap();
    let mut stage = Stage {
        manager: &manager,
        id,
        other,
        crates: Vec::new(),
        memories: Vec::new(),
        images: Vec::new(),
        charges: Vec::new(),
        loans: Vec::new(),
        list: None,
    };
    let mut refused = None;
    for (number, step) in story.steps.iter().enumerate() {
        let before = figures(&manager);
        fail_at(if number == at { k } else { 0 });
        let done = step(&mut stage);
        fail_at_end(&mut refused, number == at);
        if !done {
            assert!(number == at && refused.is_some(), "{} {number}: failed of itself", story.name);
            assert_eq!(
                figures(&manager),
                before,
                "{} {number}: {refused:?}, and something changed",
                story.name
            );
            assert!(step(&mut stage), "{} {number}: after {refused:?} it cannot be done again", story.name);
        }
    }
    drop(stage.list);
    drop((stage.memories, stage.images, stage.charges, stage.loans));
    for id in stage.crates.into_iter().rev().chain([id, other]) {
        manager.retire(id).unwrap();
    }
    manager.tracker.book().with(|book| {
        book.audit();
        assert_eq!(book.places(), [0; 3], "{}: the book is not empty after {refused:?}", story.name);
    });
    manager.trim(usize::MAX);
    assert_eq!((manager.snapshot().used, manager.waits().waiting), (0, 0), "{}: bytes are left", story.name);
    refused
}

fn fail_at_end(refused: &mut Option<Call>, here: bool) {
    if here {
        *refused = failed();
    }
    fail_at(0);
}

#[test]
fn every_call_can_be_refused_and_nothing_is_lost() {
    let mut seen: BTreeMap<Call, usize> = BTreeMap::new();
    let mut steps = 0;
    for story in STORIES {
        for at in 0..story.steps.len() {
            steps += 1;
            let mut k = 1;
            while let Some(call) = run(story, at, k) {
                *seen.entry(call).or_default() += 1;
                k += 1;
            }
        }
    }
    // `cargo xtask faults` reads this.
    println!("faults: {} in {steps} steps: {seen:?}", seen.values().sum::<usize>());
    let calls = [
        Call::Charge,
        Call::Reserve,
        Call::Commit,
        Call::Release,
        Call::Scan,
        Call::Image,
        Call::Fresh,
        Call::Open,
        Call::Close,
        Call::Empty,
        Call::File,
        Call::View,
        Call::Heap,
        Call::Slab,
        Call::Crates,
        Call::Book,
        Call::Tickets,
    ];
    let missed: Vec<_> = calls.iter().filter(|call| !seen.contains_key(call)).collect();
    // What a machine cannot do is not asked of it.
    let scans = PooledProvider::new().scans_pagemap();
    let missed: Vec<_> = missed.into_iter().filter(|call| scans || **call != Call::Scan).collect();
    assert!(missed.is_empty(), "never refused: {missed:?}");
}
