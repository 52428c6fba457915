//! Prepared modules as bytes, so that a module is compiled once and loaded by many processes, or again after a restart.
//!
//! ```text
//! magic (12) | format (4) | SHA-256 of the rest (32) | code, as wasmtime writes it; memories and their images
//! ```
//!
//! wasmtime says whether the code is for this engine: its version, target and settings. That images and code belong
//! together, and that neither was cut short or changed by accident, the hash says. It is no signature: whoever can
//! write such bytes can have any code run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, Error, Module, Result};
use wrt_memory::{CrateHandle, CrateId};

use crate::budgets::Budgets;
use crate::image::{PreparedMemory, hold_saved};
use crate::prepared::Prepared;

const MAGIC: [u8; 12] = *b"\0wrt-memory\n";

/// Raised whenever what follows is laid out otherwise.
const FORMAT: u32 = 1;

/// Bytes before what is hashed.
const HEAD: usize = MAGIC.len() + 4 + 32;

#[derive(Deserialize, Serialize)]
struct Saved<'a> {
    code: &'a [u8],
    memories: Vec<SavedMemory>,
}

/// One of a module's own memories that is not empty when it is made.
#[derive(Deserialize, Serialize)]
pub(crate) struct SavedMemory {
    /// Pages.
    pub(crate) minimum: u64,
    /// Pages.
    pub(crate) maximum: Option<u64>,
    pub(crate) is_64: bool,
    pub(crate) is_shared: bool,
    pub(crate) page_size_log2: Option<u32>,
    pub(crate) image: Option<SavedImage>,
}

/// What it starts with, where that is not 0.
#[derive(Deserialize, Serialize)]
pub(crate) struct SavedImage {
    /// In bytes.
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Prepared {
    /// It as bytes, for [`Budgets::deserialize`]: compiled code and the images of its memories. Nothing in them is of a
    /// crate or of a budget.
    ///
    /// # Errors
    /// As `Module::serialize`.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let code = self.module.serialize()?;
        let memories = self.memories.iter().map(PreparedMemory::save).collect();
        let rest = postcard::to_allocvec(&Saved { code: &code, memories }).map_err(Error::msg)?;
        let mut bytes = Vec::with_capacity(HEAD + rest.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(Sha256::digest(&rest));
        bytes.extend(rest);
        Ok(bytes)
    }
}

impl Budgets {
    /// A module that was prepared before, by this process or by another, for a crate of this manager. Its images are charged
    /// to the crate as [`prepare`](Self::prepare) charges them.
    ///
    /// # Safety
    /// The bytes are what [`Prepared::serialize`] returned, and nobody who is not trusted could have written them since: their
    /// code is run as it is. What happened to them by accident is found; what somebody did on purpose is not.
    ///
    /// # Errors
    /// Bytes that were cut short or changed, or are no prepared module; of another format; code of another version of
    /// wasmtime, for another target, or compiled with other settings, such as the other preset. What the crate is denied; an
    /// id that is unknown, stale or foreign.
    pub unsafe fn deserialize(&self, engine: &Engine, id: CrateId, bytes: &[u8]) -> Result<Prepared> {
        let handle = CrateHandle::new(&self.manager, id)?;
        let saved = open(bytes)?;
        // SAFETY: `serialize` had it from wasmtime, by the caller's promise and the hash.
        let module = unsafe { Module::deserialize(engine, saved.code) }
            .map_err(|error| error.context("the prepared module is not for this engine: prepare it anew"))?;
        let memories: Arc<[PreparedMemory]> = hold_saved(saved.memories, &handle)?;
        Ok(Prepared { module, id, memories })
    }
}

/// What the bytes hold, where they are as they were written.
fn open(bytes: &[u8]) -> Result<Saved<'_>> {
    let no = |what: String| Err(Error::msg(what));
    let Some(rest) = bytes.strip_prefix(&MAGIC) else {
        let what = match bytes {
            [b'\0', b'a', b's', b'm', ..] => "this is wasm, which `Budgets::prepare` takes",
            _ if Engine::detect_precompiled(bytes).is_some() => {
                "this is code of wasmtime alone, without images: `Module::deserialize` takes it"
            }
            _ => "its first bytes are others",
        };
        return no(format!(
            "no prepared module, as `Prepared::serialize` writes it, in {} bytes: {what}",
            bytes.len()
        ));
    };
    let Some((format, rest)) = rest.split_first_chunk() else {
        return no(format!(
            "a prepared module cut short: of its first {HEAD} bytes there are {}",
            bytes.len()
        ));
    };
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return no(format!(
            "a prepared module of format {format}, where this version of the adapter reads {FORMAT}: prepare it anew"
        ));
    }
    let Some((hash, rest)) = rest.split_first_chunk::<32>() else {
        return no(format!(
            "a prepared module cut short: of its first {HEAD} bytes there are {}",
            bytes.len()
        ));
    };
    if Sha256::digest(rest)[..] != hash[..] {
        return no(format!(
            "a prepared module that was cut short or changed since it was written: the hash of its {} bytes is another. \
             Write it anew",
            bytes.len()
        ));
    }
    postcard::from_bytes(rest).map_err(|error| {
        Error::msg(format!(
            "a prepared module whose hash is right and whose contents cannot be read: {error}"
        ))
    })
}
