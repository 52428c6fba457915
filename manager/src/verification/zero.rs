//! Whether memory that is handed out is zero, without having the machine fetch what nobody touched.
//!
//! Blocks of the heap and of static regions are read whole. Of mapped memory the pages are read that the system has in
//! memory or in swap, which `/proc/self/pagemap` says: a page that is neither was never written, and reading it
//! would only make it resident. Where there is no such file, mapped memory is not looked at.

use core::ops::Range;
use core::ptr::NonNull;

use super::invariant::Fresh;
use crate::provider::{Block, ProviderKind};

/// The first byte that is not what it should be, and what it should be.
pub(crate) fn find_other(block: &Block, kind: ProviderKind, fresh: &Fresh<'_>) -> Option<(u8, u8)> {
    let range = fresh.range.start..fresh.range.end.min(block.size);
    if range.is_empty() {
        return None;
    }
    match kind {
        ProviderKind::Heap | ProviderKind::StaticRegion => other_in(block.ptr, range, fresh),
        ProviderKind::Mapped | ProviderKind::Pooled => resident(block.ptr, range, fresh),
    }
}

/// Looks at `range` of the bytes at `start`.
fn other_in(start: NonNull<u8>, range: Range<usize>, fresh: &Fresh<'_>) -> Option<(u8, u8)> {
    // SAFETY: the bytes of a live block that nobody else has are readable and initialised, and `range` is within its
    // size.
    let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr().add(range.start), range.len()) };
    let Some((image, content)) = &fresh.image else {
        return bytes.iter().find(|&&byte| byte != 0).map(|&byte| (byte, 0));
    };
    let expected = |at: usize| if image.contains(&at) { content[at - image.start] } else { 0 };
    let found = bytes.iter().zip(range).map(|(&byte, at)| (byte, expected(at)));
    found.into_iter().find(|(found, expected)| found != expected)
}

#[cfg(all(feature = "std", target_os = "linux"))]
fn resident(start: NonNull<u8>, range: Range<usize>, fresh: &Fresh<'_>) -> Option<(u8, u8)> {
    // Miri's system does not say.
    if cfg!(miri) {
        return None;
    }
    let address = start.addr().get();
    let mut other = None;
    crate::provider::resident(address + range.start..address + range.end, &mut |pages| {
        let within = pages.start - address..pages.end - address;
        other = other_in(start, within, fresh);
        other.is_none()
    });
    other
}

#[cfg(not(all(feature = "std", target_os = "linux")))]
fn resident(_: NonNull<u8>, _: Range<usize>, _: &Fresh<'_>) -> Option<(u8, u8)> {
    None
}
