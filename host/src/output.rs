//! What guests write, on its way out.
//!
//! One thread writes for all guests, from a queue that is bounded: a guest that writes faster than it is read waits,
//! without holding up a thread that runs guests, and can be ended while it waits. stdout and stderr share the queue, so that
//! they come out in the order in which they were written.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes in the queue above which guests wait.
const QUEUE: usize = 256 << 10;
/// Bytes a guest may write at once.
const WRITE: usize = 64 << 10;
/// Bytes of a line above which it is broken.
const LINE: usize = 16 << 10;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The way out for all guests.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or nothing more will come, or all is written.
    changed: Condvar,
    /// There is room again.
    room: Notify,
    /// Guests' stdout goes to stderr.
    to_stderr: bool,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<(Stream, Bytes)>,
    bytes: usize,
    /// The thread is writing what it has taken.
    writing: bool,
    /// Nobody reads this stream any more.
    closed: [bool; 2],
}

impl Outlet {
    /// Starts the thread. `around` is given each write to do, and may do something before and after. With `to_stderr`
    /// nothing goes to stdout.
    pub fn new(to_stderr: bool, around: impl Fn(&mut dyn FnMut()) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            room: Notify::new(),
            to_stderr,
        });
        let outlet = Self(shared.clone());
        // Ends with the process.
        std::thread::Builder::new().name("output".to_owned()).spawn(move || shared.write_all(&around))?;
        Ok(outlet)
    }

    /// A stream that goes out as it is.
    pub fn plain(&self, stream: Stream) -> GuestStream {
        GuestStream { outlet: self.0.clone(), stream, lines: None }
    }

    /// A stream that goes out by lines, each after the name of who wrote it.
    pub fn lines(&self, stream: Stream, who: &str) -> GuestStream {
        let lines = Lines {
            outlet: self.0.clone(),
            stream,
            prefix: format!("{who} | ").into_bytes(),
            rest: Mutex::default(),
        };
        GuestStream { outlet: self.0.clone(), stream, lines: Some(Arc::new(lines)) }
    }

    /// Waits until all is written, or for this long. Says whether it is.
    pub fn drain(&self, most: Duration) -> bool {
        let queue = self.0.queue();
        let busy = |queue: &mut Queue| queue.writing || !queue.chunks.is_empty();
        let waited = self.0.changed.wait_timeout_while(queue, most, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stream: Stream, bytes: Bytes) {
        let mut queue = self.queue();
        queue.bytes += bytes.len();
        queue.chunks.push_back((stream, bytes));
        drop(queue);
        self.changed.notify_all();
    }

    fn is_closed(&self, stream: Stream) -> bool {
        self.queue().closed[stream as usize]
    }

    fn has_room(&self) -> bool {
        self.queue().bytes < QUEUE
    }

    fn write_all(&self, around: &impl Fn(&mut dyn FnMut())) {
        let mut queue = self.queue();
        loop {
            let Some((stream, bytes)) = queue.chunks.pop_front() else {
                queue.writing = false;
                self.changed.notify_all();
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.writing = true;
            let skip = queue.closed[stream as usize];
            drop(queue);
            let mut result = Ok(());
            if !skip {
                around(&mut || result = self.write(stream, &bytes));
            }
            queue = self.queue();
            queue.bytes -= bytes.len();
            queue.closed[stream as usize] |= result.is_err();
            self.room.notify_waiters();
        }
    }

    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if stream == Stream::Stdout && !self.to_stderr {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        } else {
            io::stderr().lock().write_all(bytes)
        }
    }
}

/// A guest's stdout or stderr.
#[derive(Clone)]
pub struct GuestStream {
    outlet: Arc<Shared>,
    stream: Stream,
    lines: Option<Arc<Lines>>,
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.outlet.is_closed(self.stream) {
            return Err(StreamError::Closed);
        }
        match &self.lines {
            Some(lines) => lines.write(&bytes),
            None => self.outlet.push(self.stream, bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.outlet.is_closed(self.stream) {
            return Err(StreamError::Closed);
        }
        Ok(if self.outlet.has_room() { WRITE } else { 0 })
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {
        loop {
            let room = self.outlet.room.notified();
            tokio::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            if self.outlet.has_room() || self.outlet.is_closed(self.stream) {
                return;
            }
            room.await;
        }
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        self.lines.is_none()
            && match self.stream {
                Stream::Stdout if !self.outlet.to_stderr => std::io::IsTerminal::is_terminal(&io::stdout()),
                _ => std::io::IsTerminal::is_terminal(&io::stderr()),
            }
    }
}

impl StdoutStream for GuestStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Asked for by WASI 0.3 only, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

/// Makes lines of what comes in pieces. What is left at the end goes out as a line, too.
struct Lines {
    outlet: Arc<Shared>,
    stream: Stream,
    prefix: Vec<u8>,
    rest: Mutex<Vec<u8>>,
}

impl Lines {
    fn write(&self, bytes: &[u8]) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            rest.extend_from_slice(piece);
            if rest.ends_with(b"\n") || rest.len() >= LINE {
                self.line(&mut rest, &mut out);
            }
        }
        if !out.is_empty() {
            self.outlet.push(self.stream, out.into());
        }
    }

    fn line(&self, rest: &mut Vec<u8>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.append(rest);
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut *self.rest.lock().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            let mut out = Vec::new();
            self.line(&mut rest, &mut out);
            self.outlet.push(self.stream, out.into());
        }
    }
}
