//! Random operations on a manager, against plain numbers.
//!
//! What the model says is in `plain.rs`. Without stock, grants and denials must be just these. With stock there is one exception, which
//! is wanted: where a limit was lowered below what is given out, a crate may still use the stock it
//! has without asking those above.

use proptest::prelude::*;

use super::plain::{Model, Node};
use crate::budget::amount::Amount;
use crate::budget::charge::Charge;
use crate::budget::id::CrateId;
use crate::budget::slot::ROOT;
use crate::error::MemoryError;
use crate::{CrateSettings, UnifiedMemoryManager};

#[derive(Clone, Debug)]
enum Op {
    Register { parent: Option<usize>, limit: Option<u64>, guarantee: u64 },
    Charge { who: usize, bytes: u64 },
    Drop { which: usize },
    Split { which: usize, bytes: u64 },
    Merge { which: usize, other: usize },
    SetLimit { who: usize, bytes: u64 },
    SetGuarantee { who: usize, bytes: u64 },
    SetTotal { bytes: u64 },
    Retire { who: usize },
}

const TOTAL: u64 = 100;

fn run(ops: Vec<Op>, unit: u64, stock: u64) {
    let largest = if unit == 1 { 0 } else { (unit << 30) - 1 };
    let manager = UnifiedMemoryManager::builder()
        .total((TOTAL * unit) as usize)
        .largest_total(largest as usize)
        .stock((stock * unit) as usize)
        .build()
        .unwrap();
    assert_eq!(manager.tracker.scale().unit() as u64, unit);
    let mut model = Model { total: TOTAL, nodes: Vec::new() };
    let mut charges: Vec<(CrateId, u64, Charge<'_>)> = Vec::new();
    let exact = stock == 0;
    for op in ops {
        let count = model.nodes.len();
        let pick = |who: usize| (count > 0).then(|| model.nodes[who % count].id);
        match op.clone() {
            Op::Register { parent, limit, guarantee } => {
                let parent = parent.and_then(pick);
                let settings = CrateSettings::new()
                    .guarantee(guarantee as usize)
                    .limit(limit.map_or(usize::MAX, |limit| limit as usize));
                let settings = parent.map_or(settings, |parent| settings.parent(parent));
                let deep = parent.is_some_and(|parent| model.above(parent).len() >= 8);
                let registered = manager.register("crate", settings);
                let limit =
                    limit.map_or(u64::from(crate::budget::Units::LARGEST.get()), |limit| limit / unit);
                // As the model sees it: there with no guarantee, then given one.
                let id = registered.as_ref().map_or(UNNAMED, |&id| id);
                model.nodes.push(Node { id, parent, limit, guarantee: 0, used: 0 });
                let granted = !deep && model.guarantee(id, guarantee.div_ceil(unit));
                assert_eq!(registered.is_ok(), granted, "{op:?}: {registered:?}");
                if !granted {
                    model.nodes.pop();
                }
            }
            Op::Charge { who, bytes } => {
                let Some(id) = pick(who) else { continue };
                let n = bytes.div_ceil(unit);
                // Somebody has more given out than a limit lowered since allows.
                let above = model.above(id);
                let stretched = [Some(id)].into_iter().chain(above).any(|at| {
                    let index = at.map_or(ROOT, |id| id.index);
                    let state = manager.tracker.slot(index).budget.load();
                    !state.used.at_most(&state.limit)
                });
                let expected = model.charge(id, n);
                match manager.charge(id, bytes as usize, bytes as usize) {
                    Ok(charge) => {
                        assert_eq!((charge.crate_id(), charge.bytes() as u64), (id, n * unit));
                        if let Err(at) = expected {
                            assert!(!exact && stretched, "{op:?} was granted, {at:?} has not so much");
                            model.node_mut(id).used += n;
                        }
                        charges.push((id, n, charge));
                    }
                    Err(MemoryError::OverLimit { id: of, .. }) => {
                        assert_eq!((expected, of), (Err(Some(id)), id), "{op:?}");
                    }
                    Err(MemoryError::PoolExhausted { id: of, .. }) => {
                        assert_eq!(of, id);
                        assert!(expected.is_err_and(|at| at != Some(id)), "{op:?} was denied: {expected:?}");
                    }
                    Err(error) => panic!("{op:?}: {error}"),
                }
            }
            Op::Drop { which } if !charges.is_empty() => {
                let (id, n, charge) = charges.swap_remove(which % charges.len());
                drop(charge);
                model.node_mut(id).used -= n;
            }
            Op::Split { which, bytes } if !charges.is_empty() => {
                let which = which % charges.len();
                let (id, had, charge) = &mut charges[which];
                let part = charge.split(bytes as usize, 0);
                let n = bytes / unit;
                assert_eq!(part.is_some(), bytes.is_multiple_of(unit) && n <= *had);
                if let Some(part) = part {
                    *had -= n;
                    let id = *id;
                    charges.push((id, n, part));
                }
            }
            Op::Merge { which, other } if !charges.is_empty() => {
                let (id, n, charge) = charges.swap_remove(which % charges.len());
                if charges.is_empty() {
                    charges.push((id, n, charge));
                } else {
                    let other = other % charges.len();
                    let (into, had, merged) = &mut charges[other];
                    match merged.merge(charge) {
                        Ok(()) => {
                            assert_eq!(*into, id);
                            *had += n;
                        }
                        Err(charge) => {
                            assert_ne!(*into, id);
                            charges.push((id, n, charge));
                        }
                    }
                }
            }
            Op::SetLimit { who, bytes } => {
                let Some(id) = pick(who) else { continue };
                let fits = bytes / unit >= model.floor(Some(id));
                let set = manager.set_limit(id, bytes as usize);
                assert_eq!(set.is_ok(), fits, "{op:?}: {set:?}");
                if fits {
                    model.node_mut(id).limit = bytes / unit;
                }
            }
            Op::SetGuarantee { who, bytes } => {
                let Some(id) = pick(who) else { continue };
                let set = manager.set_guarantee(id, bytes as usize);
                assert_eq!(set.is_ok(), model.guarantee(id, bytes.div_ceil(unit)), "{op:?}: {set:?}");
            }
            Op::SetTotal { bytes } => {
                let fits = bytes / unit >= model.floor(None);
                let set = manager.set_total(bytes as usize);
                assert_eq!(set.is_ok(), fits, "{op:?}: {set:?}");
                if fits {
                    model.total = bytes / unit;
                }
            }
            Op::Retire { who } => {
                let Some(id) = pick(who) else { continue };
                let idle = model.node(id).used == 0 && model.below(Some(id)).next().is_none();
                let retired = manager.retire(id);
                assert_eq!(retired.is_ok(), idle, "{op:?}: {retired:?}");
                if idle {
                    model.nodes.retain(|node| node.id != id);
                    charges.retain(|(of, n, _)| *of != id || *n > 0);
                }
            }
            Op::Drop { .. } | Op::Split { .. } | Op::Merge { .. } => {}
        }
        compare(&manager, &model, stock, &op);
    }
    charges.clear();
    while let Some(at) = model.nodes.iter().rposition(|node| model.below(Some(node.id)).next().is_none()) {
        manager.retire(model.nodes.remove(at).id).unwrap();
    }
    let root = manager.tracker.slot(ROOT).budget.load();
    let total = u32::try_from(model.total).unwrap();
    assert_eq!((root.used.get(), root.held.get(), root.floor.get()), (0, total, 0), "not all came back");
}

/// Stands for a crate that is not registered.
const UNNAMED: CrateId = CrateId { index: u32::MAX, generation: 0, tag: 0 };

/// I1, I3, I4, the sums of floors, and each node against the model.
fn compare(manager: &UnifiedMemoryManager, model: &Model, stock: u64, op: &Op) {
    let tracker = &manager.tracker;
    #[cfg(feature = "formal-verification")]
    tracker.assert_followed();
    let state = |id: Option<CrateId>| tracker.slot(id.map_or(ROOT, |id| id.index)).budget.load();
    for id in model.nodes.iter().map(|node| Some(node.id)).chain([None]) {
        let s = state(id);
        assert!(s.use_is_backed() && s.floor_is_backed(), "I3, I4 after {op:?}: {s:?}");
        let own = id.map_or(0, |id| model.node(id).used);
        let given: u64 = model.below(id).map(|child| u64::from(state(Some(child.id)).held.get())).sum();
        assert_eq!(u64::from(s.used.get()), own + given, "I1 after {op:?}: {id:?} {s:?}");
        assert_eq!(u64::from(s.floor.get()), model.floor(id), "sum of floors after {op:?}: {id:?} {s:?}");
        assert_eq!(u64::from(s.limit.get()), model.limit(id), "limit after {op:?}: {id:?} {s:?}");
        let held = u64::from(s.held.get());
        if id.is_none() {
            assert_eq!(held, model.total.max(s.used.get().into()), "the pool after {op:?}: {s:?}");
        } else if stock == 0 {
            assert_eq!(held, model.needs(id), "held in vain after {op:?}: {id:?} {s:?}");
        } else {
            assert!(held >= model.needs(id), "after {op:?}: {id:?} {s:?}");
            let idle = u64::from(s.stock().get());
            let index = id.map_or(ROOT, |id| id.index);
            let findable = tracker.seats.seated().any(|seated| seated == index);
            assert!(idle == 0 || findable && idle <= stock, "stock after {op:?}: {id:?} {s:?}");
        }
    }
}

fn op(unit: u64) -> impl Strategy<Value = Op> {
    let amount = move |most: u64| {
        prop_oneof![
            8 => (0..=most).prop_map(move |units| units * unit),
            2 => 0..=most * unit,
        ]
    };
    let small = amount(40);
    prop_oneof![
        3 => (prop::option::weighted(0.6, any::<usize>()), prop::option::weighted(0.4, amount(80)),
              prop_oneof![2 => Just(0), 1 => amount(30)])
            .prop_map(|(parent, limit, guarantee)| Op::Register { parent, limit, guarantee }),
        10 => (any::<usize>(), prop_oneof![4 => small.clone(), 1 => amount(100)])
            .prop_map(|(who, bytes)| Op::Charge { who, bytes }),
        8 => any::<usize>().prop_map(|which| Op::Drop { which }),
        1 => (any::<usize>(), small.clone()).prop_map(|(which, bytes)| Op::Split { which, bytes }),
        1 => any::<(usize, usize)>().prop_map(|(which, other)| Op::Merge { which, other }),
        2 => (any::<usize>(), amount(100)).prop_map(|(who, bytes)| Op::SetLimit { who, bytes }),
        3 => (any::<usize>(), small).prop_map(|(who, bytes)| Op::SetGuarantee { who, bytes }),
        1 => amount(150).prop_map(|bytes| Op::SetTotal { bytes }),
        2 => any::<usize>().prop_map(|who| Op::Retire { who }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_stock_a_request_is_granted_just_where_it_fits(ops in prop::collection::vec(op(1), 1..80)) {
        run(ops, 1, 0);
    }

    #[test]
    fn with_stock_a_request_is_granted_just_where_it_fits(
        ops in prop::collection::vec(op(1), 1..120), stock in prop_oneof![Just(3u64), Just(10), Just(60)],
    ) {
        run(ops, 1, stock);
    }

    #[test]
    fn a_coarser_unit_rounds_charges_up_and_limits_down_and_changes_nothing_else(
        ops in prop::collection::vec(op(32), 1..100), stock in prop_oneof![Just(0u64), Just(10)],
    ) {
        run(ops, 32, stock);
    }
}
