//! What the machine allows this process, less a reserve, as a manager's total.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::string::String;

use super::mounts::Version;
use super::{cgroup, mounts, physical};
use crate::error::MemoryError;
use crate::manager::UnifiedMemoryManager;
use crate::settings::Builder;

/// Kept for the host, in bytes, unless it says otherwise: code, stacks and heap of a small one.
const DEFAULT_RESERVE: usize = 32 << 20;

/// Kept for the host, in per cent of what the machine allows, unless it says otherwise.
const DEFAULT_PERCENT: u8 = 10;

/// Tries to set a total below guarantees that other threads raise meanwhile.
const MAX_TRIES: usize = 16;

/// Where a manager's total is to come from: what the machine allows this process, less a reserve.
///
/// The machine allows the least of: the limits of the process's control group and of every group above it (version
/// 2: `memory.max` and `memory.high`; version 1: `memory.limit_in_bytes`), and physical memory. The reserve is for
/// the host itself: of the bytes and the per cent that are named, whichever is more; by default 32 MiB or 10 %.
///
/// All of it is read from files as Linux has them; where there are none, [`read`](Self::read) says so.
///
/// ```no_run
/// use wrt_memory::{MachineLimit, UnifiedMemoryManager};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let machine = MachineLimit::new().reserve(256 << 20);
/// let read = machine.read()?;
/// println!("{} bytes, as {} says", read.total, read.source.display());
/// let manager = UnifiedMemoryManager::builder().total_from_machine(&read).build()?;
/// // Later, or every few seconds by `follow`:
/// machine.refresh(&manager)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLimit {
    root: PathBuf,
    reserve: usize,
    percent: u8,
}

/// What the machine said, and what that makes for guests. All amounts are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MachineTotal {
    /// What the process may have.
    pub limit: usize,
    /// The file that says so: of a control group, or `/proc/meminfo`.
    pub source: PathBuf,
    /// What of it is kept for the host.
    pub reserve: usize,
    /// What is left for guests: `limit - reserve`.
    pub total: usize,
    /// What the limit can become at most while the machine runs: its physical memory.
    pub largest: usize,
}

/// What following the machine did to a manager. All amounts are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineChange {
    /// What the machine said.
    pub read: MachineTotal,
    /// The total before.
    pub before: usize,
    /// The total now: that of `read`, in the manager's unit, unless it was adjusted.
    pub total: usize,
    /// Why it is not what was read: [`LimitBelowGuarantee`](MemoryError::LimitBelowGuarantee), and it is what is
    /// guaranteed, the least there can be; or [`TooLarge`](MemoryError::TooLarge), and it is the most the manager
    /// can count.
    pub adjusted: Option<MemoryError>,
}

/// Why the machine's limit is not known, or cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A file that should say a limit cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that should say a limit says something else.
    #[error("{}: expected an amount of memory, and it says `{text}`", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// How it begins.
        text: String,
    },
    /// Neither a control group nor the machine says how much there is.
    #[error(
        "nothing below {} says how much memory there is: neither control groups nor proc/meminfo; set a total instead",
        root.display()
    )]
    Unknown {
        /// Below which folder was looked.
        root: PathBuf,
    },
    /// A setting that cannot be.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what would be right.
        what: &'static str,
    },
    /// The system gave no thread to follow with.
    #[error("no thread to follow the machine's limit with: {0}")]
    Thread(io::Error),
}

impl MachineLimit {
    /// This machine's, less the default reserve.
    pub fn new() -> Self {
        Self { root: "/".into(), reserve: DEFAULT_RESERVE, percent: DEFAULT_PERCENT }
    }

    /// Keeps at least so many bytes for the host.
    pub fn reserve(mut self, bytes: usize) -> Self {
        self.reserve = bytes;
        self
    }

    /// Keeps at least so much for the host, in per cent of what the machine allows: 0 to 100.
    pub fn reserve_percent(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }

    /// Reads `proc` and the mounted groups below this folder instead of `/`: where they are those of a machine
    /// that is mounted there.
    pub fn root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.root = folder.into();
        self
    }

    /// What the machine says now. A total of 0 is possible: the reserve is then all there is.
    ///
    /// # Errors
    /// [`MachineError`]; a limit that cannot be read is never taken for none.
    pub fn read(&self) -> Result<MachineTotal, MachineError> {
        if self.percent > 100 {
            return Err(MachineError::Invalid { what: "a reserve is 0 to 100 per cent of what there is" });
        }
        let physical = self.physical()?;
        let mut least = physical.clone();
        for found in self.groups()? {
            if least.as_ref().is_none_or(|(bytes, _)| found.0 < *bytes) {
                least = Some(found);
            }
        }
        let Some((limit, source)) = least else {
            return Err(MachineError::Unknown { root: self.root.clone() });
        };
        let percent = (limit as u128 * u128::from(self.percent)).div_ceil(100) as usize;
        let reserve = self.reserve.max(percent).min(limit);
        let largest = physical.map_or(limit, |(bytes, _)| bytes);
        Ok(MachineTotal { limit, source, reserve, total: limit - reserve, largest })
    }

    /// Reads, and sets the manager's total accordingly. Where more is given out, the pool shrinks as bytes come
    /// back, as with [`set_total`](UnifiedMemoryManager::set_total).
    ///
    /// # Errors
    /// As [`read`](Self::read); the total is then as it was. A total that cannot be set is none: the nearest one is,
    /// and [`adjusted`](MachineChange::adjusted) says why.
    pub fn refresh(&self, manager: &UnifiedMemoryManager) -> Result<MachineChange, MachineError> {
        let read = self.read()?;
        let before = manager.pool().limit;
        let mut wanted = read.total;
        let mut adjusted = None;
        for _ in 0..MAX_TRIES {
            let Err(error) = manager.set_total(wanted) else { break };
            wanted = match error {
                MemoryError::LimitBelowGuarantee { guaranteed, .. } => guaranteed,
                MemoryError::TooLarge { largest, .. } => largest,
                _ => break,
            };
            adjusted = Some(match error {
                // With what the machine said, not with what was tried since.
                MemoryError::LimitBelowGuarantee { name, guaranteed, .. } => {
                    MemoryError::LimitBelowGuarantee { name, asked: read.total, guaranteed }
                }
                other => other,
            });
        }
        Ok(MachineChange { before, total: manager.pool().limit, adjusted, read })
    }

    fn physical(&self) -> Result<Option<(usize, PathBuf)>, MachineError> {
        let path = self.root.join("proc/meminfo");
        let Some(text) = read(&path)? else { return Ok(None) };
        match physical::parse(&text) {
            Some(bytes) => Ok(Some((to_usize(bytes), path))),
            None => Err(malformed(path, &text)),
        }
    }

    /// Every limit there is for this process's groups.
    fn groups(&self) -> Result<Vec<(usize, PathBuf)>, MachineError> {
        let mut found = Vec::new();
        let Some(mountinfo) = read(&self.root.join("proc/self/mountinfo"))? else { return Ok(found) };
        let groups =
            read(&self.root.join("proc/self/cgroup"))?.map(|text| cgroup::groups(&text)).unwrap_or_default();
        for mount in mounts::parse(&mountinfo) {
            let group = match mount.version {
                Version::One => groups.one.as_deref(),
                Version::Two => groups.two.as_deref(),
            };
            for folder in cgroup::folders(&mount, group) {
                let folder = self.root.join(folder.trim_start_matches('/'));
                for file in cgroup::files(mount.version) {
                    let path = folder.join(file.name);
                    // A group on which nothing is limited, and the topmost one, have no such file.
                    let Some(text) = read(&path)? else { continue };
                    match (file.parse)(&text) {
                        Ok(Some(bytes)) => found.push((to_usize(bytes), path)),
                        Ok(None) => {}
                        Err(()) => return Err(malformed(path, &text)),
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Default for MachineLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The global budget that the machine allows; it can follow up to all of the machine's memory.
    pub fn total_from_machine(self, read: &MachineTotal) -> Self {
        self.total(read.total).largest_total(read.largest)
    }
}

impl fmt::Display for MachineChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineTotal { limit, reserve, source, .. } = &self.read;
        write!(
            f,
            "{} allows {limit} bytes, {reserve} of them for the host: the pool has {} now, and had {} before",
            source.display(),
            self.total,
            self.before
        )?;
        match &self.adjusted {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// A file's text, or `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, MachineError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(MachineError::Read { path: path.to_owned(), source }),
    }
}

fn malformed(path: PathBuf, text: &str) -> MachineError {
    MachineError::Malformed { path, text: text.trim().chars().take(40).collect() }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

// Of machines of 8 GiB and more.
#[cfg(all(test, unix, not(loom), target_pointer_width = "64"))]
mod tests;
