//! A crate's budget as an allocator.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::api::CrateHandle;
use crate::budget::Charge;
use crate::handle::ManagerHandle;
use crate::manager::charge;
use crate::provider::{Block, Provider, ProviderKind, Request};

impl CrateHandle<'_> {
    /// Where collections live: a rule that needs no memory of where a block came from.
    fn home(&self) -> Option<&dyn Provider> {
        let providers = &self.manager().providers;
        let kind = if providers.region().is_some() { ProviderKind::StaticRegion } else { ProviderKind::Heap };
        providers.provider(kind)
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
        let home = self.home().ok_or(AllocError)?;
        let request = request(layout);
        let cost = home.cost(&request).map_err(|_| AllocError)?;
        let charged = charge(ManagerHandle::from(&**self.manager()), self.id(), layout.size(), cost)
            .map_err(|_| AllocError)?;
        let block = home.allocate(&request).map_err(|_| AllocError)?;
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
        let Some(home) = self.home() else { return };
        let Ok(cost) = home.cost(&request(layout)) else { return };
        let size = layout.size();
        // SAFETY: by the caller's contract `allocate` of this rule returned `ptr` for `layout`, and
        // its block was just this; it is not used any more.
        unsafe {
            home.free(Block {
                ptr,
                size,
                reserved: size,
                cost,
                align: layout.align(),
                guard: 0,
                mark: core::ptr::null_mut(),
            })
        };
        // The charge that `allocate` detached. The crate cannot have been retired meanwhile.
        drop(Charge::attach(ManagerHandle::from(&**self.manager()), self.id(), size, cost));
    }
}
