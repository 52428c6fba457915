//! The global budget from the machine: what its control groups allow, or what memory it has, less a
//! reserve; and followed when that changes.
//!
//! The parsers ([`cgroup`], [`mounts`], [`physical`]) are functions of given text. [`limit`] reads the files, below
//! a folder that need not be `/`; [`follow`] does so again and again. Nothing here knows the ledger: a total is
//! set as a host sets it.

mod cgroup;
mod follow;
mod limit;
mod mounts;
mod physical;

pub use follow::MachineFollower;
pub use limit::{MachineChange, MachineError, MachineLimit, MachineTotal};
