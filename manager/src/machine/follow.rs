//! A thread that follows the machine's limit.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::limit::{MachineChange, MachineError, MachineLimit};
use crate::manager::UnifiedMemoryManager;
use crate::sync::Arc;

/// A thread that looks at the machine's limit again and again. It stops when this is dropped, which waits for a
/// look that is under way, or when its manager is gone.
#[derive(Debug)]
pub struct MachineFollower {
    /// Dropped to stop it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MachineLimit {
    /// [Refreshes](Self::refresh) a manager's total every so often, the first time at once, on a thread. `told`
    /// hears what is new: a total that changed, an adjustment, an error; not the same one again and again.
    ///
    /// # Errors
    /// [`Invalid`](MachineError::Invalid) for a time of 0, [`Thread`](MachineError::Thread).
    pub fn follow(
        self,
        manager: &Arc<UnifiedMemoryManager>,
        every: Duration,
        mut told: impl FnMut(Result<MachineChange, MachineError>) + Send + 'static,
    ) -> Result<MachineFollower, MachineError> {
        if every.is_zero() {
            return Err(MachineError::Invalid {
                what: "a limit is followed every so often, and 0 is not often but always: a second will do",
            });
        }
        let manager = Arc::downgrade(manager);
        let (stop, stopped) = channel::<()>();
        let look = move || {
            let mut last = News::default();
            loop {
                let Some(manager) = manager.upgrade() else { return };
                let result = self.refresh(&manager);
                drop(manager);
                if last.is_news(&result) {
                    told(result);
                }
                match stopped.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("machine-limit".to_owned()).spawn(look);
        Ok(MachineFollower { stop: Some(stop), thread: Some(thread.map_err(MachineError::Thread)?) })
    }
}

/// What was told last.
#[derive(Default)]
struct News {
    adjusted: Option<crate::MemoryError>,
    error: Option<String>,
}

impl News {
    fn is_news(&mut self, result: &Result<MachineChange, MachineError>) -> bool {
        let (news, now) = match result {
            Ok(change) => {
                let news =
                    change.before != change.total || change.adjusted != self.adjusted || self.error.is_some();
                (news, Self { adjusted: change.adjusted.clone(), error: None })
            }
            Err(error) => {
                let error = Some(error.to_string());
                (self.error != error, Self { adjusted: self.adjusted.take(), error })
            }
        };
        *self = now;
        news
    }
}

impl Drop for MachineFollower {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            // What it tells may drop it: nobody waits for themselves.
            && thread.thread().id() != thread::current().id()
        {
            // A panic of `told` ended the thread, and was reported as such.
            let _ = thread.join();
        }
    }
}
