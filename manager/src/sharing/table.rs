//! Numbered places for what the book keeps: any number with `alloc`, a few without.

#[cfg(feature = "alloc")]
type Places<T, const FEW: usize> = alloc::vec::Vec<Place<T>>;
#[cfg(not(feature = "alloc"))]
type Places<T, const FEW: usize> = [Place<T>; FEW];

enum Place<T> {
    /// Free; the next free one.
    Free(u32),
    Taken(T),
}

/// Things by number, from 1; 0 is none. Without `alloc`, at most `FEW`.
pub(super) struct Table<T, const FEW: usize> {
    places: Places<T, FEW>,
    /// The first place that was freed; 0: none.
    free: u32,
    /// Places that have been taken at some time.
    used: u32,
}

impl<T, const FEW: usize> Table<T, FEW> {
    pub(super) const fn new() -> Self {
        Self {
            #[cfg(feature = "alloc")]
            places: alloc::vec::Vec::new(),
            #[cfg(not(feature = "alloc"))]
            places: [const { Place::Free(0) }; FEW],
            free: 0,
            used: 0,
        }
    }

    /// Puts `value` into a free place. `None` where there is none, or the machine gives no memory.
    pub(super) fn put(&mut self, value: T) -> Option<u32> {
        if self.free != 0 {
            let number = self.free;
            let place = self.places.get_mut((number as usize).checked_sub(1)?)?;
            if let Place::Free(next) = *place {
                self.free = next;
            }
            *place = Place::Taken(value);
            return Some(number);
        }
        #[cfg(feature = "alloc")]
        {
            #[cfg(any(all(test, feature = "std"), feature = "faults"))]
            if crate::fault::fails(crate::fault::Call::Book) {
                return None;
            }
            self.places.try_reserve(1).ok()?;
            self.places.push(Place::Free(0));
        }
        *self.places.get_mut(self.used as usize)? = Place::Taken(value);
        self.used += 1;
        Some(self.used)
    }

    /// Empties a place.
    pub(super) fn take(&mut self, number: u32) -> Option<T> {
        let place = self.places.get_mut((number as usize).checked_sub(1)?)?;
        if let Place::Free(_) = place {
            return None;
        }
        match core::mem::replace(place, Place::Free(self.free)) {
            Place::Taken(value) => {
                self.free = number;
                Some(value)
            }
            Place::Free(_) => None,
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        match self.places.get((number as usize).checked_sub(1)?)? {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.places.get_mut((number as usize).checked_sub(1)?)? {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// Places in use.
    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.places.iter().filter(|place| matches!(place, Place::Taken(_))).count()
    }

    /// The numbers of places up to which there may be something, exclusive.
    pub(super) fn up_to(&self) -> u32 {
        self.places.len() as u32 + 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Table;

    #[test]
    fn a_place_is_used_again_and_never_twice() {
        let mut table = Table::<_, 8>::new();
        let numbers: Vec<u32> = (0..8).map(|value| table.put(value).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(table.take(3), Some(2));
        assert_eq!(table.take(3), None);
        assert_eq!((table.get(3), table.get(0), table.get(99)), (None, None, None));
        assert_eq!(table.put(20), Some(3));
        assert_eq!((table.get(3), table.len()), (Some(&20), 8));
        #[cfg(not(feature = "alloc"))]
        assert_eq!(table.put(9), None);
    }
}
