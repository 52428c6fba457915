//! What a host calls a crate.

use core::fmt;

use crate::sync::{AtomicU32, Ordering, const_fn};

/// Bytes of a name.
const CAPACITY: usize = 48;

/// A crate's name: 1 to 48 bytes of UTF-8, kept by value, so that errors and snapshots can carry
/// it without `alloc`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CrateName {
    bytes: [u8; CAPACITY],
}

impl CrateName {
    /// The most bytes a name may have.
    pub const MAX_LEN: usize = CAPACITY;

    /// A name, or `None` where `name` is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes, or contains a NUL.
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || name.len() > CAPACITY || name.contains('\0') {
            return None;
        }
        let mut bytes = [0; CAPACITY];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { bytes })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(CAPACITY);
        // A name read while its slot is being given to another crate can be torn: then what is
        // whole of it is the best there is.
        match core::str::from_utf8(&self.bytes[..len]) {
            Ok(name) => name,
            Err(torn) => core::str::from_utf8(&self.bytes[..torn.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl fmt::Display for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CrateName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A name that may be read while it is written: torn then, but never a data race.
pub(crate) struct AtomicName([AtomicU32; CAPACITY / 4]);

impl AtomicName {
    const_fn! {
        pub(crate) const fn new() -> Self {
            Self([
                AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
                AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
                AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
            ])
        }
    }

    pub(crate) fn store(&self, name: &CrateName) {
        for (word, bytes) in self.0.iter().zip(name.bytes.as_chunks::<4>().0) {
            word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn load(&self) -> CrateName {
        let mut name = CrateName { bytes: [0; CAPACITY] };
        for (word, bytes) in self.0.iter().zip(name.bytes.as_chunks_mut::<4>().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_whole_or_refused() {
        let long = "n".repeat(CrateName::MAX_LEN);
        for name in ["a", "Zürich", long.as_str()] {
            let kept = AtomicName::new();
            kept.store(&CrateName::new(name).unwrap());
            assert_eq!(kept.load().as_str(), name);
            #[cfg(feature = "alloc")]
            assert_eq!(alloc::format!("{:?}", kept.load()), alloc::format!("{name:?}"));
        }
        for name in ["", "with\0nul", &"n".repeat(CrateName::MAX_LEN + 1)] {
            assert_eq!(CrateName::new(name), None);
        }
    }
}
