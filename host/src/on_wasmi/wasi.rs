//! WASI preview 1, so that whatever waits, waits at its [`Desk`].

use std::any::Any;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use wasi_common::file::{FdFlags, FileType};
use wasi_common::pipe::ReadPipe;
use wasi_common::sched::{Poll, RwEventFlags, Subscription};
use wasi_common::sync::{Dir, ambient_authority, clocks_ctx, dir, random_ctx};
use wasi_common::{Error, ErrorExt, Table, WasiCtx, WasiFile, WasiSched};
use wasmtime_wasi::cli::IsTerminal;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};
use wrt_memory_wasmi::for_the_host;

use super::desk::Desk;
use crate::output::{GuestStream, Outlet, Stream};
use crate::plan::{GuestPlan, Output, Source, Stdin};

/// What a guest wrote that is to be compared; no more than the bytes expected and one.
pub type Written = Arc<Mutex<Vec<u8>>>;

/// What one instance is given.
///
/// # Errors
/// Folders and files that cannot be opened.
pub fn context(
    plan: &GuestPlan,
    number: usize,
    outlet: &Outlet,
    desk: &Arc<Desk>,
    written: &Written,
) -> Result<WasiCtx, String> {
    let sched = Box::new(Sched(desk.clone()));
    let mut wasi = WasiCtx::new(random_ctx(), clocks_ctx(), sched, Table::new());
    let program = match &plan.source {
        Source::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(),
        Source::Bytes(_) => plan.name.as_str().into(),
    };
    for arg in std::iter::once(program.as_ref()).chain(plan.args.iter().map(String::as_str)) {
        wasi.push_arg(arg).map_err(|error| format!("the argument `{arg}`: {error}"))?;
    }
    for (name, value) in &plan.env {
        wasi.push_env(name, value).map_err(|error| format!("the variable `{name}`: {error}"))?;
    }
    for (host, guest) in &plan.dirs {
        let folder = Dir::open_ambient_dir(host, ambient_authority())
            .map_err(|error| format!("the folder {}: {error}", host.display()))?;
        wasi.push_preopened_dir(Box::new(dir::Dir::from_cap_std(folder)), guest)
            .map_err(|error| format!("the folder {}: {error}", host.display()))?;
    }
    match &plan.stdin {
        Stdin::Inherit => wasi.set_stdin(Box::new(HostStdin::new(desk.clone()))),
        Stdin::Empty => {}
        Stdin::Bytes(bytes) => wasi.set_stdin(Box::new(ReadPipe::new(io::Cursor::new(*bytes)))),
        Stdin::File(path) => {
            let file =
                std::fs::File::open(path).map_err(|error| format!("stdin {}: {error}", path.display()))?;
            wasi.set_stdin(Box::new(ReadPipe::new(file)));
        }
    }
    let out = |stream: GuestStream| Box::new(Out { stream, desk: desk.clone() });
    match plan.output {
        Output::Inherit => {
            wasi.set_stdout(out(outlet.plain(Stream::Stdout)));
            wasi.set_stderr(out(outlet.plain(Stream::Stderr)));
        }
        Output::Lines => {
            let who = plan.instance(number);
            wasi.set_stdout(out(outlet.lines(Stream::Stdout, &who)));
            wasi.set_stderr(out(outlet.lines(Stream::Stderr, &who)));
        }
        Output::Expect(bytes) => {
            wasi.set_stdout(Box::new(Kept { written: written.clone(), most: bytes.len() + 1 }));
        }
        Output::Discard => {}
    }
    Ok(wasi)
}

/// The guest is ended.
fn time_is_up() -> Error {
    Error::trap(anyhow::anyhow!("the deadline has passed"))
}

/// stdout or stderr.
struct Out {
    stream: GuestStream,
    desk: Arc<Desk>,
}

#[async_trait::async_trait]
impl WasiFile for Out {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn isatty(&self) -> bool {
        self.stream.is_terminal()
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(if self.isatty() { FileType::CharacterDevice } else { FileType::Pipe })
    }

    async fn get_fdflags(&self) -> Result<FdFlags, Error> {
        Ok(FdFlags::APPEND)
    }

    async fn write_vectored<'a>(&self, bufs: &[IoSlice<'a>]) -> Result<u64, Error> {
        let Some(buf) = bufs.iter().find(|buf| !buf.is_empty()) else { return Ok(0) };
        let mut stream = self.stream.clone();
        // In the queue it is not the guest's any more.
        for_the_host(|| {
            loop {
                match stream.check_write() {
                    Ok(0) => self.desk.wait(stream.ready()).ok_or_else(time_is_up)?,
                    Ok(room) => {
                        let bytes = &buf[..buf.len().min(room)];
                        stream.write(Bytes::copy_from_slice(bytes)).map_err(|_| Error::io())?;
                        return Ok(bytes.len() as u64);
                    }
                    Err(StreamError::Closed | StreamError::LastOperationFailed(_) | StreamError::Trap(_)) => {
                        return Err(Error::io());
                    }
                }
            }
        })
    }
}

/// stdout that is compared.
struct Kept {
    written: Written,
    most: usize,
}

#[async_trait::async_trait]
impl WasiFile for Kept {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(FileType::Pipe)
    }

    async fn write_vectored<'a>(&self, bufs: &[IoSlice<'a>]) -> Result<u64, Error> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for_the_host(|| {
            for buf in bufs {
                let room = self.most.saturating_sub(written.len()).min(buf.len());
                written.extend_from_slice(&buf[..room]);
            }
        });
        Ok(bufs.iter().map(|buf| buf.len() as u64).sum())
    }
}

/// The host's own stdin, read by a thread: a guest that waits for it can be ended.
struct HostStdin {
    desk: Arc<Desk>,
    /// Made when it is read for the first time.
    pieces: AsyncMutex<Option<(mpsc::Receiver<Bytes>, Bytes)>>,
}

impl HostStdin {
    fn new(desk: Arc<Desk>) -> Self {
        Self { desk, pieces: AsyncMutex::default() }
    }

    fn start() -> io::Result<(mpsc::Receiver<Bytes>, Bytes)> {
        let (send, pieces) = mpsc::channel(1);
        // Ends with the process.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut buf = vec![0; 64 << 10];
            while let Ok(len @ 1..) = io::stdin().lock().read(&mut buf) {
                if send.blocking_send(Bytes::copy_from_slice(&buf[..len])).is_err() {
                    break;
                }
            }
        })?;
        Ok((pieces, Bytes::new()))
    }
}

#[async_trait::async_trait]
impl WasiFile for HostStdin {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn isatty(&self) -> bool {
        std::io::IsTerminal::is_terminal(&io::stdin())
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(if self.isatty() { FileType::CharacterDevice } else { FileType::Pipe })
    }

    async fn read_vectored<'a>(&self, bufs: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        let Some(buf) = bufs.iter_mut().find(|buf| !buf.is_empty()) else { return Ok(0) };
        let mut pieces = self.pieces.lock().await;
        for_the_host(|| {
            if pieces.is_none() {
                *pieces = Some(Self::start()?);
            }
            let Some((pieces, rest)) = pieces.as_mut() else { return Err(Error::io()) };
            if rest.is_empty() {
                *rest = self.desk.wait(pieces.recv()).ok_or_else(time_is_up)?.unwrap_or_default();
            }
            let piece = rest.split_to(rest.len().min(buf.len()));
            buf[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len() as u64)
        })
    }
}

/// Waiting for a time. Streams and files are always ready: who reads or writes then waits there.
struct Sched(Arc<Desk>);

#[async_trait::async_trait]
impl WasiSched for Sched {
    async fn poll_oneoff<'a>(&self, poll: &mut Poll<'a>) -> Result<(), Error> {
        let mut ready = false;
        for subscription in poll.rw_subscriptions() {
            if let Subscription::Read(stream) | Subscription::Write(stream) = subscription {
                stream.complete(1, RwEventFlags::empty());
                ready = true;
            }
        }
        let time = poll.earliest_clock_deadline().map(|clock| clock.duration_until().unwrap_or_default());
        match time {
            Some(time) if !ready => self.sleep(time).await,
            _ => Ok(()),
        }
    }

    async fn sched_yield(&self) -> Result<(), Error> {
        self.0.next_turn();
        Ok(())
    }

    async fn sleep(&self, time: Duration) -> Result<(), Error> {
        for_the_host(|| self.0.wait(async { tokio::time::sleep(time).await })).ok_or_else(time_is_up)
    }
}
