//! What a guest is made with.

use crate::account::OnDenial;
use crate::overhead;
use crate::reserve::Reserve;

/// What a [`Guest`](crate::Guest) is made with. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct GuestSettings {
    pub(crate) stack: usize,
    pub(crate) depth: usize,
    pub(crate) region: usize,
    pub(crate) spare: usize,
    pub(crate) fuel: Option<u64>,
    pub(crate) on_denial: OnDenial,
    pub(crate) renewable: bool,
    pub(crate) reserve: Option<Reserve>,
}

impl GuestSettings {
    /// A value stack of 64 KiB, calls 1000 deep, regions as large as the budget allows, no fuel, refused growth
    /// is -1.
    pub const fn new() -> Self {
        Self {
            stack: 65536,
            depth: 1000,
            region: usize::MAX,
            spare: 0,
            fuel: None,
            on_denial: OnDenial::Refuse,
            renewable: false,
            reserve: None,
        }
    }

    /// Bytes of value stack, and how deep calls may be: past either the guest traps. Both are allocated,
    /// and charged, when the guest is made; a call takes three words. At least one call, and 64 bytes.
    pub const fn stack(mut self, bytes: usize, calls: usize) -> Self {
        self.stack = if bytes < 64 { 64 } else { bytes };
        self.depth = if calls < 1 { 1 } else { calls };
        self
    }

    /// The most bytes the region of any one memory has, beyond what it starts with. Where
    /// the guest declares no maximum, or a larger one, this is what decides how far it can grow and what it
    /// is charged.
    pub const fn region(mut self, bytes: usize) -> Self {
        self.region = bytes;
        self
    }

    /// Bytes that a guest of this module needs at most while it is made, but for its memories and tables and
    /// what the host links to it: who wants several in one budget divides what is left. `usize::MAX` where there is no
    /// room to look through the module.
    #[must_use]
    pub fn overhead(&self, wasm: &[u8]) -> usize {
        let module = overhead::module(wasm).map_or(usize::MAX, |module| module.load);
        overhead::guest(self).saturating_add(module)
    }

    /// Bytes of the budget that regions leave, for tables to grow.
    pub const fn spare(mut self, bytes: usize) -> Self {
        self.spare = bytes;
        self
    }

    /// Gives the guest fuel: it stops when that is used up.
    pub const fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = Some(fuel);
        self
    }

    /// What a refused growth does to the guest.
    pub const fn on_denial(mut self, on_denial: OnDenial) -> Self {
        self.on_denial = on_denial;
        self
    }

    /// Keeps the module that is loaded last compiled, for [`Guest::load_again`](crate::Guest::load_again). The guest is charged for it.
    pub const fn renewable(mut self) -> Self {
        self.renewable = true;
        self
    }

    /// Room that was set aside for its crate.
    pub fn reserve(mut self, reserve: &Reserve) -> Self {
        self.reserve = Some(reserve.clone());
        self
    }
}

impl Default for GuestSettings {
    fn default() -> Self {
        Self::new()
    }
}
