//! What can go wrong with a guest.

use alloc::string::String;

use wrt_memory::MemoryError;

/// Why a guest was not loaded, or a call did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its crate's budget, the pool or the provider has not the bytes.
    #[error("{what}: {source}")]
    Memory {
        /// What they were for.
        what: &'static str,
        /// Who has too little, and how much that is.
        source: MemoryError,
    },
    /// The machine has no room for bytes that the budget allows.
    #[error("no room for {bytes} bytes within the budget")]
    NoRoom {
        /// The bytes.
        bytes: usize,
    },
    /// The runtime has allocated more for a guest than its crate can be charged for: it is not run any more.
    #[error("the runtime holds {live} bytes for this guest, of which {charged} are charged: {source}")]
    Overdrawn {
        /// Bytes the runtime holds for the guest.
        live: usize,
        /// Bytes charged for that.
        charged: usize,
        /// Why the rest cannot be charged.
        source: MemoryError,
    },
    /// A module that this adapter does not take.
    #[error("the module has {what}")]
    Unsupported {
        /// What it has, and what would be right.
        what: &'static str,
    },
    /// The runtime refused the module, or the guest trapped.
    #[error("{0}")]
    Wasmi(wasmi::Error),
    /// wasmi was built with a dispatch that leaves frames on the host's stack.
    #[error(
        "this build of wasmi uses {bytes} bytes of the host's stack for every {calls} refused growths, and a guest \
         can use up all of it: build wasmi with its feature `portable-dispatch`"
    )]
    Dispatch {
        /// Bytes of stack that were used up.
        bytes: usize,
        /// By so many instructions.
        calls: u32,
    },
    /// Room for the runtime was to be set aside, and nothing would use it.
    #[error("room for the runtime is of no use without a `GuestHeap` as the program's global allocator")]
    NotMeasured,
    /// A module was to be loaded again and there is none, or the guest was not renewed in between.
    #[error(
        "nothing to load again: the settings have to say `renewable`, and the guest has to be renewed first"
    )]
    NothingKept,
    /// A guest cannot be told of pressure, by the name that is for it it exports something else.
    #[error(
        "the export `wrt_memory_pressure` is {found}, and should be a function of one i32 that returns one: \
         (param $level i32) (result i32)"
    )]
    PressureHook {
        /// What it is instead.
        found: &'static str,
    },
    /// No export of that name and type.
    #[error("no function `{name}` of that type is exported")]
    NoSuchFunction {
        /// The name.
        name: String,
    },
}

impl From<wasmi::Error> for Error {
    fn from(error: wasmi::Error) -> Self {
        Self::Wasmi(error)
    }
}

impl Error {
    pub(crate) fn memory(what: &'static str) -> impl FnOnce(MemoryError) -> Self {
        move |source| Self::Memory { what, source }
    }

    /// The trap, where it is one.
    pub fn trap(&self) -> Option<wasmi::TrapCode> {
        match self {
            Self::Wasmi(error) => error.as_trap_code(),
            _ => None,
        }
    }
}
