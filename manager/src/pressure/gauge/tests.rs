//! Levels, hysteresis and the bound on signals, by themselves and against what they are defined to be.

use proptest::prelude::*;

use super::*;

fn units(raw: u32) -> Units {
    Units::new(raw).unwrap()
}

fn gauge(levels: [u8; MAX_LEVELS], hysteresis: u8, limit: u32) -> Gauge {
    let mut gauge = Gauge::new(&levels, hysteresis);
    gauge.set_limit(units(limit));
    gauge
}

/// The levels signalled when use is this.
fn seen(gauge: &mut Gauge, used: u32) -> Vec<u8> {
    gauge.see(units(used)).into_iter().flatten().map(|crossing| crossing.percent).collect()
}

#[test]
fn a_level_is_signalled_when_reached_and_again_only_after_it_is_left_by_the_hysteresis() {
    let mut gauge = gauge([75, 90, 100, 0], 10, 1000);
    for (used, signalled, level) in [
        (749, &[][..], None),
        (750, &[75], Some(75)),
        (899, &[], Some(75)),
        // Not far enough below.
        (651, &[], Some(75)),
        (760, &[], Some(75)),
        (650, &[], None),
        (1000, &[75, 90, 100], Some(100)),
        (800, &[], Some(75)),
        // 90 was left at 800; 75 was not.
        (900, &[90], Some(90)),
        (0, &[], None),
    ] {
        // Acknowledged each time: what the bound leaves out is another test's.
        gauge.acknowledge();
        assert_eq!((seen(&mut gauge, used), gauge.level()), (signalled.to_vec(), level), "at {used}");
    }
}

#[test]
fn a_level_within_the_hysteresis_is_left_when_nothing_is_used() {
    let mut gauge = gauge([5, 0, 0, 0], 10, 1000);
    assert_eq!(seen(&mut gauge, 50), [5]);
    assert!(seen(&mut gauge, 1).is_empty());
    assert_eq!(gauge.level(), Some(5));
    assert!(seen(&mut gauge, 0).is_empty());
    assert_eq!(gauge.level(), None);
}

#[test]
fn nothing_used_is_no_pressure_even_where_nothing_is_allowed() {
    let mut gauge = gauge([1, 100, 0, 0], 10, 0);
    assert!(seen(&mut gauge, 0).is_empty());
    assert_eq!(seen(&mut gauge, 1), [1, 100]);
    assert!(seen(&mut gauge, 0).is_empty());
    assert_eq!(gauge.level(), None);
}

#[test]
fn a_refusal_reaches_the_level_of_100_and_no_other() {
    let mut all = gauge([75, 100, 0, 0], 10, 1000);
    let crossed: Vec<_> =
        all.refuse(units(500)).into_iter().flatten().map(|crossing| crossing.percent).collect();
    assert_eq!((crossed, all.level()), (vec![100], Some(100)));
    let again = |gauge: &mut Gauge, used| gauge.refuse(units(used)).into_iter().flatten().next().is_some();
    // Until something came back, the same again is no news.
    assert!(seen(&mut all, 500).is_empty() && !again(&mut all, 500));
    assert!(seen(&mut all, 401).is_empty() && !again(&mut all, 401));
    assert_eq!(seen(&mut all, 800), [75]);
    assert_eq!(all.level(), Some(100));
    seen(&mut all, 400);
    assert_eq!(all.level(), None);
    all.acknowledge();
    assert!(again(&mut all, 400));
    // Nor is it over by a limit that is lowered; by one that is raised it is.
    all.set_limit(units(900));
    seen(&mut all, 400);
    assert_eq!(all.level(), Some(100));
    all.set_limit(units(901));
    seen(&mut all, 400);
    assert_eq!(all.level(), None);
    // Reached by use, it is over as any other.
    all.acknowledge();
    assert_eq!(seen(&mut all, 901), [75, 100]);
    seen(&mut all, 810);
    assert_eq!(all.level(), Some(75));
    let mut low = gauge([75, 90, 0, 0], 10, 1000);
    assert!(low.refuse(units(900)).into_iter().flatten().next().is_none());
}

#[test]
fn crossings_are_signalled_ever_less_often_but_always_again_and_at_once_after_an_acknowledgement() {
    let mut gauge = gauge([50, 0, 0, 0], 10, 100);
    let mut signals = Vec::new();
    for crossing in 1..=10_000u32 {
        gauge.see(units(0));
        if let [Some(signal), ..] = gauge.see(units(50)) {
            signals.push((crossing, signal.crossings));
        }
    }
    let firsts: Vec<_> = signals.iter().map(|(crossing, _)| *crossing).take(5).collect();
    assert_eq!(firsts, [1, 3, 7, 15, 31]);
    // No crossing is forgotten in the counts, and none of 1024 in a row goes unsaid.
    assert_eq!(signals.iter().map(|(_, count)| count).sum::<u32>(), signals.last().unwrap().0);
    assert!(signals.windows(2).all(|pair| pair[1].0 - pair[0].0 <= u32::from(SPARSEST)));
    assert!(signals.len() <= 10 + 10_000 / usize::from(SPARSEST) + 1, "{}", signals.len());
    let left_out = 10_000 - signals.last().unwrap().0;
    assert_eq!(gauge.acknowledge()[0], left_out);
    gauge.see(units(0));
    assert!(gauge.see(units(50))[0].is_some());
}

proptest! {
    /// The marks are exactly where something would happen: with them, no use between is looked at, and none
    /// outside is missed.
    #[test]
    fn marks_are_where_something_happens(
        limit in 0..5000u32, levels in prop::sample::subsequence((1..=100u8).collect::<Vec<_>>(), 1..=4),
        hysteresis in 1..=100u8, uses in prop::collection::vec((0..5000u32, prop::bool::weighted(0.1)), 1..60),
    ) {
        let mut percent = [0; MAX_LEVELS];
        percent[..levels.len()].copy_from_slice(&levels);
        let mut gauge = gauge(percent, hysteresis, limit);
        for (used, refused) in uses {
            if refused {
                gauge.refuse(units(used));
            }
            let (up, down) = gauge.marks();
            let met = up.is_some_and(|up| units(used) >= up) || down.is_some_and(|down| units(used) < down);
            let state = |gauge: &Gauge| gauge.levels.map(|level| (level.reached, level.crossings, level.every));
            let before = state(&gauge);
            prop_assert_eq!(gauge.is_news(units(used)), met);
            gauge.see(units(used));
            prop_assert_eq!(met, before != state(&gauge), "at {}", used);
            // Once seen it is no news: setting the marks ends.
            prop_assert!(!gauge.is_news(units(used)));
        }
    }
}
