//! Which provider serves a request, and why.
//!
//! The rules, from the first that applies:
//! 1. guards: only mapped pages have them. Slots that stay warm are mapped pages too, and come first where there are any;
//! 2. aligned to [a page](ProviderSelector::PAGE_ALIGN) or more: mapped pages are so anyway, the
//!    others lose as much again;
//! 3. `size` or `reserve` at least [`mapped_from`](ProviderSelector::mapped_from): mapped, since a
//!    system call is small beside so many bytes and the rounding to pages beside so large a block;
//! 4. anything smaller: the static region where there is one, else the heap.
//!
//! The providers not preferred follow, those left out that never serve such a request. So there
//! is an order of [candidates](ProviderSelector::candidates), and whoever allocates tries the
//! next one where one is exhausted: each may cost differently, and is charged before it is tried.

use core::fmt;

use super::{Block, Provider, ProviderError, ProviderKind, Request, StaticRegionProvider, unsupported};

#[cfg(test)]
mod tests;

/// The providers there are, and the choice between them. Without one it serves nothing.
#[derive(Debug)]
pub struct ProviderSelector {
    region: Option<StaticRegionProvider>,
    #[cfg(feature = "alloc")]
    heap: Option<super::HeapProvider>,
    #[cfg(all(feature = "std", unix))]
    mapped: Option<super::MappedProvider>,
    #[cfg(all(feature = "std", target_os = "linux"))]
    pooled: Option<std::sync::Arc<super::PooledProvider>>,
    mapped_from: usize,
    /// Serves instead of the provider of a kind.
    #[cfg(test)]
    stand_in: StandIn,
}

/// A provider that does what a test wants.
#[cfg(test)]
struct StandIn(Option<(ProviderKind, Box<dyn Provider>)>);

#[cfg(test)]
impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map(|(kind, _)| kind).fmt(f)
    }
}

/// Which provider a request goes to, and why. Displays as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Selection {
    /// The provider.
    pub kind: ProviderKind,
    /// Why this one.
    pub reason: SelectionReason,
    /// The larger of the request's size and reserve, in bytes.
    pub extent: usize,
    /// From how many bytes mapped pages are preferred.
    pub mapped_from: usize,
}

/// Why a provider was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
#[repr(u8)]
pub enum SelectionReason {
    /// The request is small.
    Small = 1,
    /// The request is small and must grow in place.
    SmallGrows = 2,
    /// The request is large.
    Large = 3,
    /// The request is large and must grow in place.
    LargeGrows = 4,
    /// The request is aligned to a page or more.
    PageAligned = 5,
    /// The request needs guards.
    Guarded = 6,
    /// A preferred provider never serves such a request.
    PreferredCannot = 7,
    /// A preferred provider is not there.
    PreferredAbsent = 8,
    /// To be tried when the candidates before it are exhausted.
    Overflow = 9,
}

impl SelectionReason {
    const ALL: [Self; 9] = [
        Self::Small,
        Self::SmallGrows,
        Self::Large,
        Self::LargeGrows,
        Self::PageAligned,
        Self::Guarded,
        Self::PreferredCannot,
        Self::PreferredAbsent,
        Self::Overflow,
    ];

    /// As a byte that is never 0, to be kept in an atomic.
    pub(crate) const fn to_code(self) -> u8 {
        self as u8
    }

    /// The reverse of [`to_code`](Self::to_code).
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

impl fmt::Display for SelectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "below the size from which pages are mapped",
            Self::SmallGrows => "below the size from which pages are mapped, and must grow in place",
            Self::Large => "large enough to map pages",
            Self::LargeGrows => "large enough to map pages, and must grow in place",
            Self::PageAligned => "aligned to a page or more",
            Self::Guarded => "needs guards",
            Self::PreferredCannot => "a preferred provider never serves this",
            Self::PreferredAbsent => "a preferred provider is not there",
            Self::Overflow => "if those before it are exhausted",
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, reason, extent, mapped_from } = self;
        match reason {
            SelectionReason::Small => {
                write!(f, "{kind}: {extent} bytes are below {mapped_from}")
            }
            SelectionReason::SmallGrows => {
                write!(f, "{kind}: {extent} bytes are below {mapped_from} and must grow in place")
            }
            SelectionReason::Large => {
                write!(f, "{kind}: {extent} bytes are at least {mapped_from}")
            }
            SelectionReason::LargeGrows => {
                write!(f, "{kind}: {extent} bytes are at least {mapped_from} and must grow in place")
            }
            _ => write!(f, "{kind}: {reason} ({extent} bytes)"),
        }
    }
}

/// How far the candidates of a request were looked through.
pub(crate) struct Candidates {
    preference: Preference,
    rank: usize,
    any: bool,
    cannot: bool,
    any_proper: bool,
}

/// The kinds in order of preference, of which the first `proper` are meant for the request.
#[derive(Clone, Copy)]
struct Preference {
    order: &'static [ProviderKind],
    proper: usize,
    reason: SelectionReason,
}

impl ProviderSelector {
    /// From how many bytes of size or reserve mapped pages are preferred, unless told otherwise:
    /// 64 KiB, one WebAssembly page, 16 or 4 host pages.
    pub const MAPPED_FROM: usize = 65536;

    /// From which alignment, in bytes, mapped pages are preferred.
    pub const PAGE_ALIGN: usize = 4096;

    /// A selector with no provider.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            region: None,
            #[cfg(feature = "alloc")]
            heap: None,
            #[cfg(all(feature = "std", unix))]
            mapped: None,
            #[cfg(all(feature = "std", target_os = "linux"))]
            pooled: None,
            mapped_from: Self::MAPPED_FROM,
            #[cfg(test)]
            stand_in: StandIn(None),
        }
    }

    /// A selector with every provider the platform has: the heap with `alloc`, mapped pages with
    /// `std` on Unix, no static region.
    #[must_use]
    pub fn of_platform() -> Self {
        let selector = Self::new();
        #[cfg(feature = "alloc")]
        let selector = selector.with_heap(super::HeapProvider::new());
        #[cfg(all(feature = "std", unix))]
        let selector = selector.with_mapped(super::MappedProvider::new());
        selector
    }

    /// With a static region.
    #[must_use]
    pub fn with_region(mut self, region: StaticRegionProvider) -> Self {
        self.region = Some(region);
        self
    }

    /// With the heap.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn with_heap(mut self, heap: super::HeapProvider) -> Self {
        self.heap = Some(heap);
        self
    }

    /// With mapped pages.
    #[cfg(all(feature = "std", unix))]
    #[must_use]
    pub fn with_mapped(mut self, mapped: super::MappedProvider) -> Self {
        self.mapped = Some(mapped);
        self
    }

    /// With slots that stay warm, which are then preferred to mapped pages.
    #[cfg(all(feature = "std", target_os = "linux"))]
    #[must_use]
    pub fn with_pooled(mut self, pooled: super::PooledProvider) -> Self {
        self.pooled = Some(std::sync::Arc::new(pooled));
        self
    }

    /// Whether what is said to be of the heap is.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn has_own_heap(&self) -> bool {
        #[cfg(test)]
        if self.stand_in.0.is_some() {
            return false;
        }
        self.heap.is_some()
    }

    /// With another provider in the place of one.
    #[cfg(all(test, feature = "verification", not(loom)))]
    pub(crate) fn with_stand_in(mut self, kind: ProviderKind, provider: impl Provider + 'static) -> Self {
        self.stand_in = StandIn(Some((kind, Box::new(provider))));
        self
    }

    /// Prefers mapped pages from so many bytes of size or reserve.
    #[must_use]
    pub const fn mapped_from(mut self, bytes: usize) -> Self {
        self.mapped_from = bytes;
        self
    }

    /// The provider of a kind, if it is there.
    pub fn provider(&self, kind: ProviderKind) -> Option<&dyn Provider> {
        #[cfg(test)]
        if let Some((_, provider)) = self.stand_in.0.as_ref().filter(|(of, _)| *of == kind) {
            return Some(&**provider);
        }
        match kind {
            ProviderKind::StaticRegion => self.region.as_ref().map(|it| it as &dyn Provider),
            #[cfg(feature = "alloc")]
            ProviderKind::Heap => self.heap.as_ref().map(|it| it as &dyn Provider),
            #[cfg(all(feature = "std", unix))]
            ProviderKind::Mapped => self.mapped.as_ref().map(|it| it as &dyn Provider),
            #[cfg(all(feature = "std", target_os = "linux"))]
            ProviderKind::Pooled => self.pooled.as_deref().map(|it| it as &dyn Provider),
            #[allow(unreachable_patterns, reason = "which kinds are left depends on the features")]
            _ => None,
        }
    }

    /// Grows a block of the provider of a kind; nothing is done where that is not there.
    ///
    /// Slots are grown without a call through a table, inlined to where that is asked for: on CPUs whose kernel has the
    /// predictor forget returns, each return on the way back from a system call costs as much as a swap.
    ///
    /// # Safety
    /// As [`Provider::grow`].
    #[inline(always)]
    pub(crate) unsafe fn grow(
        &self,
        kind: ProviderKind,
        block: &mut Block,
        size: usize,
    ) -> Result<(), ProviderError> {
        #[cfg(all(feature = "std", target_os = "linux", not(test)))]
        if kind == ProviderKind::Pooled
            && let Some(pooled) = self.pooled()
        {
            // SAFETY: the caller's promise.
            return unsafe { pooled.grow(block, size) };
        }
        match self.provider(kind) {
            // SAFETY: the caller's promise.
            Some(provider) => unsafe { provider.grow(block, size) },
            None => Ok(()),
        }
    }

    /// The slots that stay warm, for their figures.
    #[cfg(all(feature = "std", target_os = "linux"))]
    #[must_use]
    #[inline]
    pub fn pooled(&self) -> Option<&super::PooledProvider> {
        self.pooled.as_deref()
    }

    /// The same, to be kept.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn shared_pooled(&self) -> Option<std::sync::Arc<super::PooledProvider>> {
        self.pooled.clone()
    }

    /// The static region, for its figures of fragmentation.
    #[must_use]
    pub const fn region(&self) -> Option<&StaticRegionProvider> {
        self.region.as_ref()
    }

    /// The provider to ask first: the first of the [`candidates`](Self::candidates).
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where there is none. It names what the first provider in the
    /// order refuses, and the best limit any of them has for that.
    pub fn select(&self, request: &Request) -> Result<Selection, ProviderError> {
        let first = self.next_candidate(request, &mut self.search(request));
        first.map(|(selection, _)| selection).ok_or_else(|| self.best_refusal(request))
    }

    /// All providers that serve such a request when they have room, in the order to ask them.
    pub fn candidates(&self, request: &Request) -> impl Iterator<Item = Selection> + use<> {
        let mut search = self.search(request);
        let mut found = [None; 4];
        for place in &mut found {
            *place = self.next_candidate(request, &mut search).map(|(selection, _)| selection);
        }
        found.into_iter().flatten()
    }

    /// The candidates one by one, for who mostly takes the first.
    pub(crate) fn search(&self, request: &Request) -> Candidates {
        Candidates {
            preference: self.preference(request),
            rank: 0,
            any: false,
            cannot: false,
            any_proper: false,
        }
    }

    /// The next of the candidates of a request, and what the request costs there, in bytes.
    pub(crate) fn next_candidate(
        &self,
        request: &Request,
        search: &mut Candidates,
    ) -> Option<(Selection, usize)> {
        let Preference { order, proper, reason } = search.preference;
        while let Some(&kind) = order.get(search.rank) {
            let rank = search.rank;
            search.rank += 1;
            let Some(provider) = self.provider(kind) else {
                continue;
            };
            search.any_proper |= rank < proper;
            let Ok(cost) = provider.cost(request) else {
                search.cannot = true;
                continue;
            };
            let reason = if search.any {
                SelectionReason::Overflow
            } else if rank < proper && !search.cannot {
                reason
            } else if search.any_proper {
                SelectionReason::PreferredCannot
            } else {
                SelectionReason::PreferredAbsent
            };
            search.any = true;
            let extent = request.size.max(request.reserve);
            return Some((Selection { kind, reason, extent, mapped_from: self.mapped_from }, cost));
        }
        None
    }

    fn preference(&self, request: &Request) -> Preference {
        use ProviderKind::{Heap, Mapped, Pooled, StaticRegion};
        let grows = request.reserve > request.size;
        let large = request.size.max(request.reserve) >= self.mapped_from;
        let reason = match (request.guard > 0, request.align >= Self::PAGE_ALIGN, large, grows) {
            (true, ..) => SelectionReason::Guarded,
            (_, true, ..) => SelectionReason::PageAligned,
            (_, _, true, true) => SelectionReason::LargeGrows,
            (_, _, true, false) => SelectionReason::Large,
            (_, _, false, true) => SelectionReason::SmallGrows,
            (_, _, false, false) => SelectionReason::Small,
        };
        match reason {
            SelectionReason::Small | SelectionReason::SmallGrows => {
                Preference { order: &[StaticRegion, Heap, Mapped, Pooled], proper: 2, reason }
            }
            _ => Preference { order: &[Pooled, Mapped, StaticRegion, Heap], proper: 2, reason },
        }
    }

    /// Why nobody serves the request.
    pub(crate) fn best_refusal(&self, request: &Request) -> ProviderError {
        let mut best = None;
        for kind in self.preference(request).order {
            let Some(provider) = self.provider(*kind) else {
                continue;
            };
            let Err(refusal) = provider.cost(request) else {
                continue;
            };
            best = Some(match best {
                None => refusal,
                Some(best) => better(best, refusal),
            });
        }
        best.unwrap_or(unsupported("size", request.size, 0))
    }
}

/// Of two refusals the second, if it refuses the same but has the larger limit.
fn better(first: ProviderError, second: ProviderError) -> ProviderError {
    match (first, second) {
        (
            ProviderError::Unsupported { what, limit, .. },
            ProviderError::Unsupported { what: other, limit: larger, .. },
        ) if what == other && larger > limit => second,
        _ => first,
    }
}

impl Default for ProviderSelector {
    /// As [`of_platform`](Self::of_platform).
    fn default() -> Self {
        Self::of_platform()
    }
}
