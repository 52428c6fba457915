//! Under which budgets a module is run.

/// Bytes before the module.
pub const HEADER: usize = 4;

/// A page of WebAssembly, in bytes.
pub(crate) const PAGE: usize = 65536;

/// What the header says.
pub(crate) struct Header {
    /// Of the crate.
    pub(crate) limit: usize,
    pub(crate) fuel: u64,
    /// How the adapter is set up.
    pub(crate) how: u8,
    /// Whether a refusal is a trap.
    pub(crate) traps: bool,
    /// What functions are called with, where they want a number.
    pub(crate) number: i32,
}

impl Header {
    /// The header, and what comes after it.
    pub(crate) fn of(data: &[u8]) -> Option<(Self, &[u8])> {
        let ([limit, fuel, how, rest], module) = data.split_first_chunk::<HEADER>()?;
        // Small budgets: nothing, part of a page, some pages, and what most modules fit in.
        let limit = match limit {
            0 => 0,
            1..=63 => usize::from(*limit) * 1000,
            64..=191 => usize::from(*limit - 63) * PAGE / 4,
            _ => usize::from(*limit - 190) * PAGE,
        };
        Some((
            Self {
                limit,
                fuel: u64::from(*fuel) * 100,
                how: *how,
                traps: rest & 1 != 0,
                number: i32::from(rest >> 1),
            },
            module,
        ))
    }
}
