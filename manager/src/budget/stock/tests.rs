//! Who gets which seat, who loses it, and who finds none.

use super::*;

/// A slot that looks for a seat, and what came of it.
fn seek(seats: &Seats, index: Index) -> (Slot, Option<Index>) {
    let slot = Slot::new();
    let (former, kept) = seats.seek(index, &slot);
    assert!(kept, "nobody else is here");
    (slot, former)
}

fn seat_of(slot: &Slot) -> usize {
    assert!(Seats::has_seat(slot));
    usize::from(slot.seat.load(Ordering::SeqCst)) - 1
}

#[test]
fn a_crate_sits_at_its_own_seat_or_one_of_the_next_ones() {
    let seats = Seats::new();
    let rivals = (0..TRIES as Index).map(|round| 1 + round * SEATS as Index);
    for (at, index) in rivals.clone().enumerate() {
        let (slot, former) = seek(&seats, index);
        assert_eq!((seat_of(&slot), former), (1 + at, None));
        // Who sits goes on sitting there.
        assert_eq!(seats.seek(index, &slot), (None, true));
        assert_eq!(seat_of(&slot), 1 + at);
    }
    assert!(seats.seated().eq(rivals));
}

#[test]
fn of_so_many_that_find_no_seat_one_gets_anothers() {
    let seats = Seats::new();
    let rival = |round: u32| 1 + round * SEATS as Index;
    let sits: Vec<_> = (0..TRIES as u32).map(|round| seek(&seats, rival(round)).0).collect();
    let mut next = (TRIES as u32..).map(rival);
    let mut seek_next = || {
        let index = next.next().unwrap();
        (index, seek(&seats, index))
    };
    // The first that the hand comes to is free.
    let (first, (slot, former)) = seek_next();
    assert_eq!((seat_of(&slot), former), (0, None));
    for _ in 1..PATIENCE {
        let (_, (slot, former)) = seek_next();
        assert!(!Seats::has_seat(&slot) && former.is_none());
    }
    let (second, (slot, former)) = seek_next();
    assert_eq!((seat_of(&slot), former), (1, Some(1)));
    let seated = [first, second].into_iter().chain((1..TRIES as u32).map(rival));
    assert!(seats.seated().eq(seated));
    // Who lost it knows when it is told, and cannot give back what is another's.
    Seats::unseat(&sits[0]);
    assert!(!Seats::has_seat(&sits[0]));
    seats.vacate(1, &sits[0]);
    assert!(seats.seated().any(|index| index == second));
}

#[test]
fn a_seat_that_is_given_back_is_the_next_ones() {
    let seats = Seats::new();
    let (slot, _) = seek(&seats, 3);
    seats.vacate(3, &slot);
    assert!(!Seats::has_seat(&slot));
    assert_eq!(seats.seated().next(), None);
    let (next, former) = seek(&seats, 3 + SEATS as Index);
    assert_eq!((seat_of(&next), former), (3, None));
}
