//! Hostile modules through the wasmi adapter: nothing panics, no crate has more than its limit, every byte is back.

use std::cell::RefCell;
use std::sync::Arc;

use wasmi::Val;
use wrt_memory::provider::{ProviderSelector, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_fuzz::Seen;
use wrt_memory_wasmi::{Budgets, Guest, GuestSettings, OnDenial};

use crate::header::{Header, PAGE};

pub(crate) const REACHES: &[&str] = &[
    "no room for a guest",
    "not loaded",
    "loaded",
    "has memory",
    "denied",
    "trapped",
    "returned",
    "two modules",
];

/// Of the static region, and of the heap: where bytes come from is decided by the header.
const ROOM: usize = 64 * PAGE;

/// Made once for each thread: a region is for good.
struct Host {
    manager: Arc<UnifiedMemoryManager>,
    budgets: Budgets,
}

impl Host {
    fn new(providers: ProviderSelector) -> Self {
        let manager = UnifiedMemoryManager::builder().total(ROOM).stock(0).providers(providers).build();
        let manager = Arc::new(manager.unwrap_or_else(|error| panic!("{error}")));
        let budgets = Budgets::new(&manager).unwrap_or_else(|error| panic!("{error}"));
        Self { manager, budgets }
    }
}

thread_local! {
    static HOSTS: RefCell<Option<[Host; 2]>> = const { RefCell::new(None) };
}

fn guest(host: &Host, id: CrateId, header: &Header, wasm: &[u8], seen: &mut Seen) {
    let check = || {
        let node = host.manager.node(id).unwrap_or_else(|error| panic!("{error}"));
        assert!(node.used <= node.limit && node.high_water <= header.limit, "{node:?}");
    };
    let settings =
        GuestSettings::new().stack(16384, 100).fuel(header.fuel).spare(usize::from(header.how) * 64);
    let settings = if header.traps { settings.on_denial(OnDenial::Trap) } else { settings };
    let settings = if header.how & 1 == 0 { settings } else { settings.region(4 * PAGE) };
    let mut guest = match Guest::new(&host.budgets, id, settings, ()) {
        Ok(guest) => guest,
        Err(_) => {
            seen.note("no room for a guest");
            return;
        }
    };
    // Twice in one guest: the second module is beside the first.
    for round in 0..1 + usize::from(header.how >> 1 & 1) {
        let loaded = guest.load(wasm);
        check();
        let Ok(instance) = loaded else {
            seen.note("not loaded");
            continue;
        };
        seen.note(if round == 0 { "loaded" } else { "two modules" });
        let called = guest.run(|mut context| {
            let exports: Vec<_> = instance.exports(&context).map(|it| it.into_extern()).collect();
            for export in exports {
                if let Some(memory) = export.into_memory() {
                    seen.note("has memory");
                    let used = host.manager.node(id).map_or(0, |node| node.used);
                    assert!(memory.data_size(&context) <= used, "{used} charged");
                }
                let Some(function) = export.into_func() else { continue };
                let ty = function.ty(&context);
                let value = |ty: &wasmi::ValType| match ty {
                    wasmi::ValType::I32 => Val::I32(header.number),
                    other => Val::default_for_ty(*other),
                };
                let params: Vec<_> = ty.params().iter().map(value).collect();
                let mut results: Vec<_> = ty.results().iter().map(|ty| Val::default_for_ty(*ty)).collect();
                let _ = context.set_fuel(header.fuel);
                let called = function.call(&mut context, &params, &mut results);
                seen.note(if called.is_ok() { "returned" } else { "trapped" });
                check();
            }
        });
        let _ = called;
        check();
        if guest.last_denial().is_some() {
            seen.note("denied");
        }
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let Some((header, wasm)) = Header::of(data) else { return };
    HOSTS.with_borrow_mut(|hosts| {
        let hosts = hosts.get_or_insert_with(|| {
            let region = vec![0; ROOM + 4 * StaticRegionProvider::GRANULE].leak();
            let region = ProviderSelector::new().with_region(StaticRegionProvider::new(region));
            [Host::new(region), Host::new(ProviderSelector::of_platform())]
        });
        let host = &hosts[usize::from(header.how >> 2 & 1)];
        let free = host.manager.providers().region().map(StaticRegionProvider::free_bytes);
        // Two guests of two crates, one after the other, and the first again.
        let settings = CrateSettings::new().limit(header.limit);
        let id = host.manager.register("guest", settings).unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..2 {
            guest(host, id, &header, wasm, seen);
            assert_eq!(
                host.manager.node(id).map_or(1, |node| node.used),
                0,
                "a guest is gone, and not its bytes"
            );
            assert_eq!(host.manager.providers().region().map(StaticRegionProvider::free_bytes), free);
        }
        host.manager.retire(id).unwrap_or_else(|error| panic!("{error}"));
        let pool = host.manager.pool();
        assert_eq!((pool.used, pool.children), (0, 0), "bytes of nobody's");
    });
}
