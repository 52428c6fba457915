//! A crate's budget as an allocator.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::api::CrateHandle;
use crate::budget::Charge;
use crate::handle::ManagerHandle;
use crate::provider::{Block, Provider, ProviderKind, Request};
use crate::verification::{Handed, Offer, Standing};

impl CrateHandle<'_> {
    /// Where collections live: a rule that needs no memory of where a block came from.
    fn home(&self) -> Option<(ProviderKind, &dyn Provider)> {
        let providers = &self.manager().providers;
        let kind = if providers.region().is_some() { ProviderKind::StaticRegion } else { ProviderKind::Heap };
        Some((kind, providers.provider(kind)?))
    }
}

fn request(layout: Layout) -> Request {
    Request { size: layout.size(), align: layout.align(), reserve: 0, guard: 0 }
}

fn dangling(layout: Layout) -> NonNull<u8> {
    NonNull::without_provenance(
        core::num::NonZero::new(layout.align()).unwrap_or(core::num::NonZero::<usize>::MIN),
    )
}

// SAFETY: a block stays valid until it is freed or the provider goes, which lives in the manager
// that every clone of the handle keeps alive; clones have the same manager and rule, so any of them
// frees what another allocated.
unsafe impl Allocator for CrateHandle<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(NonNull::slice_from_raw_parts(dangling(layout), 0));
        }
        let (kind, home) = self.home().ok_or(AllocError)?;
        let (manager, id, request) = (&**self.manager(), self.id(), request(layout));
        let fence = manager.verification.fence(kind, &request);
        let wanted = fence.widen(&request);
        let cost = home.cost(&wanted).map_err(|_| AllocError)?;
        let taken = manager.take(id, cost).map_err(|_| AllocError)?;
        let charged = Charge::taken(ManagerHandle::from(manager), taken, layout.size());
        let outer = home.allocate(&wanted).map_err(|_| AllocError)?;
        let offer = Offer { id, kind, fence, request: &request, charged: charged.bytes(), image: None };
        // What is wrong with it was counted, and told.
        let block = manager.hand_out(outer, offer).map_err(|_| AllocError)?;
        charged.detach();
        Ok(NonNull::slice_from_raw_parts(block.ptr, block.size))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // Providers hand out zeroes.
        Allocator::allocate(self, layout)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        let Some((kind, home)) = self.home() else { return };
        let (manager, id, request) = (&**self.manager(), self.id(), request(layout));
        let fence = manager.verification.fence(kind, &request);
        let Ok(cost) = home.cost(&fence.widen(&request)) else { return };
        let size = layout.size();
        let align = layout.align();
        let block = Block { ptr, size, reserved: size, cost, align, guard: 0, mark: core::ptr::null_mut() };
        let outer = fence.outer(&block);
        // The charge that `allocate` detached. The crate cannot have been retired meanwhile.
        let charged = Charge::attach(ManagerHandle::from(manager), id, size, cost);
        let checked = manager.verification.before_free(manager, id, &outer, || Handed {
            request: None,
            block: &block,
            kind,
            fence,
            charged: charged.bytes(),
            fresh: None,
            standing: Standing::Sound,
        });
        if !checked.free {
            // It was freed before, and so was its charge. What is wrong was counted, and told.
            charged.detach();
            return;
        }
        // SAFETY: by the caller's contract `allocate` of this rule returned `ptr` for `layout`, and
        // its block was just this; it is not used any more.
        unsafe { home.free(outer) };
        drop(charged);
        // Counted, and told.
        let _ = manager.verification.freed(manager, id);
    }
}
