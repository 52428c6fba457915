//! Which shelf a thread uses: of the threads alive as few as can be share one.
//!
//! Threads that come and go would collide with those that stay, were they numbered as they come: of two alive, every other
//! time, on two shelves. So who ends gives its place back, and the next takes the emptiest.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::MOST_SHELVES;

/// How many threads alive use each shelf.
struct Places([AtomicUsize; MOST_SHELVES]);

impl Places {
    const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; MOST_SHELVES])
    }

    /// The shelf that the fewest use, of so many. Threads that start together ask together, so whoever finds that another
    /// was taken meanwhile looks again.
    fn take(&self, shelves: usize) -> usize {
        loop {
            let used = self.0.iter().take(shelves).map(|used| used.load(Ordering::Relaxed));
            let (at, used) = used.enumerate().min_by_key(|(_, used)| *used).unwrap_or_default();
            let taken = self.0[at].compare_exchange(used, used + 1, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return at;
            }
        }
    }

    fn leave(&self, at: usize) {
        self.0[at].fetch_sub(1, Ordering::Relaxed);
    }
}

static PLACES: Places = Places::new();

/// The place of one thread, until it ends.
struct Place(usize);

impl Drop for Place {
    fn drop(&mut self) {
        PLACES.leave(self.0);
    }
}

/// The calling thread's shelf of so many, a power of two: always the same.
pub(super) fn own(shelves: usize) -> usize {
    std::thread_local! {
        static PLACE: core::cell::OnceCell<Place> = const { core::cell::OnceCell::new() };
    }
    // `try_with`: memory may be freed while the thread's locals are destroyed.
    let place = PLACE.try_with(|place| place.get_or_init(|| Place(PLACES.take(shelves))).0);
    place.unwrap_or(0) & (shelves - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_gets_the_shelf_that_the_fewest_use_and_who_goes_makes_room() {
        let places = Places::new();
        assert_eq!([0, 1, 2, 3].map(|_| places.take(4)), [0, 1, 2, 3]);
        // One that stays, and others one after another: never on the same.
        let places = Places::new();
        let stays = places.take(2);
        for _ in 0..5 {
            let other = places.take(2);
            assert_ne!(other, stays);
            places.leave(other);
        }
        let shared: Vec<_> = (0..5).map(|_| places.take(2)).collect();
        assert_eq!(shared.iter().filter(|at| **at == stays).count(), 2, "{shared:?}");
    }

    #[test]
    fn those_who_come_at_once_share_none_while_there_is_one_for_each() {
        for _ in 0..500 {
            let (places, ready) = (&Places::new(), &AtomicUsize::new(0));
            let taken = std::thread::scope(|scope| {
                let [one, other] = [(); 2].map(|()| {
                    scope.spawn(|| {
                        // Awake: waking one from a barrier takes longer than both take here.
                        ready.fetch_add(1, Ordering::AcqRel);
                        while ready.load(Ordering::Acquire) < 2 {
                            core::hint::spin_loop();
                        }
                        places.take(2)
                    })
                });
                [one.join().unwrap(), other.join().unwrap()]
            });
            assert_ne!(taken[0], taken[1]);
        }
    }

    #[test]
    fn a_thread_has_one_place_and_no_more_when_it_has_ended() {
        let used = || PLACES.0.iter().map(|used| used.load(Ordering::Relaxed)).sum::<usize>();
        // Other tests come and go meanwhile, a few at a time; those here would stay.
        let before = used();
        for _ in 0..1000 {
            std::thread::spawn(|| assert_eq!([own(8), own(8), own(4)], [own(8), own(8), own(8) & 3]))
                .join()
                .unwrap();
        }
        assert!(used() < before + 500);
    }
}
