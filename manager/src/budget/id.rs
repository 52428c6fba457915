//! Who a budget belongs to.

use core::fmt;

use super::slot::Index;

/// One guest module or component and everything instantiated from it: any number of instances and
/// stores, one budget.
///
/// Made by registering, and good for the one manager that made it, until the crate is retired: a
/// stale or foreign id is an error, never somebody else's budget.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CrateId {
    pub(crate) index: Index,
    pub(crate) generation: u32,
    /// Which manager made it.
    pub(crate) tag: u32,
}

impl fmt::Display for CrateId {
    /// The slot and its generation: unique within a manager.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for CrateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrateId({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CrateId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn an_id_says_slot_and_generation() {
        let id = CrateId { index: 3, generation: 7, tag: 9 };
        assert_eq!((format!("{id}"), format!("{id:?}")), ("3.7".into(), "CrateId(3.7)".into()));
    }
}
