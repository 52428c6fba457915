//! How an instance ended, and the exit code that says so.
//!
//! A guest's own exit code (0 to 125 for WASI) is passed on. The host's own lie where `timeout`, shells and other
//! runtimes have theirs, and where a guest's are rarely seen.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use wrt_memory::MemoryError;

/// The command line or a scenario makes no sense.
pub const USAGE: u8 = 2;
/// A peak was above `--assert-peak`.
pub const ABOVE_PEAK: u8 = 121;
/// Bytes did not come back to the pool: a defect of this program.
pub const NOT_BACK: u8 = 122;
/// A guest was refused the memory it cannot begin without, or ended by `--on-denial trap`.
pub const REFUSED: u8 = 123;
/// A guest was ended by `--timeout`.
pub const TIMED_OUT: u8 = 124;
/// The host itself failed.
pub const HOST_FAILED: u8 = 125;
/// A guest cannot be run: not WebAssembly, not a program, or it imports what this host has not.
pub const CANNOT_RUN: u8 = 126;
/// A guest's file was not found.
pub const NOT_FOUND: u8 = 127;
/// A guest trapped: 128 and the number of SIGABRT, as a native program that aborts.
pub const TRAPPED: u8 = 134;

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A program ended with this exit code.
    Exited {
        /// It.
        code: u8,
    },
    /// A function returned.
    Returned {
        /// What, as text; of a function that ran several times, the last time.
        value: String,
    },
    /// It could not begin: memory it cannot do without was denied.
    RefusedAtLoad {
        /// Who denied, with the figures.
        why: String,
    },
    /// A denied growth ended it, as the host chose.
    EndedByDenial {
        /// Who denied, with the figures.
        why: String,
    },
    /// It trapped.
    Trapped {
        /// What trap.
        why: String,
        /// The same, with wasm's backtrace.
        #[serde(skip)]
        details: String,
    },
    /// It was ended after this time.
    TimedOut {
        /// That time, in milliseconds.
        after_ms: u64,
    },
    /// It wrote something else than it should.
    WrongOutput {
        /// What.
        why: String,
    },
    /// It cannot be instantiated here.
    CannotRun {
        /// Why.
        why: String,
    },
    /// The host failed.
    HostFailed {
        /// At what.
        why: String,
    },
}

impl Outcome {
    /// Ended by its deadline.
    pub fn timed_out(after: Duration) -> Self {
        Self::TimedOut { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }
    }

    /// A program ended with this exit code.
    pub fn exited(code: i32) -> Self {
        Self::Exited { code: u8::try_from(code).unwrap_or(u8::MAX) }
    }

    /// It trapped; what it was denied before may be why.
    pub fn trapped(why: String, mut details: String, denied: Option<&MemoryError>) -> Self {
        if let Some(denial) = denied {
            let _ = write!(details, "\n\nIt had been denied memory before, which may be why: {denial}");
        }
        Self::Trapped { why, details }
    }

    /// The same, if it wrote what was expected.
    pub fn compare(self, expected: &[u8], got: &[u8]) -> Self {
        if got == expected {
            return self;
        }
        let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
        Self::WrongOutput {
            why: format!(
                "{} bytes of stdout were expected; what came differs from byte {at}",
                expected.len()
            ),
        }
    }

    /// The exit code that says so.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited { code } => *code,
            Self::Returned { .. } => 0,
            Self::RefusedAtLoad { .. } | Self::EndedByDenial { .. } => REFUSED,
            Self::Trapped { .. } => TRAPPED,
            Self::TimedOut { .. } => TIMED_OUT,
            Self::WrongOutput { .. } => 1,
            Self::CannotRun { .. } => CANNOT_RUN,
            Self::HostFailed { .. } => HOST_FAILED,
        }
    }

    /// A few words, for a table.
    pub fn in_short(&self) -> String {
        match self {
            Self::Exited { code: 0 } => "done".to_owned(),
            Self::Exited { code } => format!("exit code {code}"),
            Self::Returned { value } if value.is_empty() => "done".to_owned(),
            Self::Returned { value } => format!("done, returned {value}"),
            Self::RefusedAtLoad { .. } => "refused at load".to_owned(),
            Self::EndedByDenial { .. } => "ended by a denial".to_owned(),
            Self::Trapped { why, .. } => format!("trapped: {why}"),
            Self::TimedOut { after_ms } => format!("ended after {:?}", Duration::from_millis(*after_ms)),
            Self::WrongOutput { .. } => "wrong output".to_owned(),
            Self::CannotRun { .. } => "cannot be run".to_owned(),
            Self::HostFailed { .. } => "the host failed".to_owned(),
        }
    }

    /// All there is to say about a failure; nothing about what the guest answers for itself.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Exited { .. } | Self::Returned { .. } => None,
            Self::RefusedAtLoad { why } => Some(format!("refused at load: {why}")),
            Self::EndedByDenial { why } => Some(format!("ended by a denial: {why}")),
            Self::Trapped { details, .. } => Some(format!("trapped: {details}")),
            Self::TimedOut { after_ms } => {
                Some(format!("timed out after {:?} and was ended", Duration::from_millis(*after_ms)))
            }
            Self::WrongOutput { why } => Some(format!("wrong output: {why}")),
            Self::CannotRun { why } => Some(format!("cannot be run: {why}")),
            Self::HostFailed { why } => Some(format!("the host failed: {why}")),
        }
    }
}
