//! A prepared module that was written down is, read again, the module that it was; anything else is refused and says what it
//! is.
#![cfg(target_os = "linux")]

mod support;

use support::{PAGE, World, call, config};
use wasmtime::{Config, Engine, Linker, Module, ModuleVersionStrategy, Store};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, MemoryError};
use wrt_memory_wasmtime::{Budgets, Prepared};

/// Two memories with an image each, one that is mapped and one that is copied, and a memory without.
const GUEST: &str = r#"
(module
  (memory $empty (export "empty") 1)
  (memory $large (export "large") 3 5)
  (memory $small (export "small") i64 1)
  (data (memory $large) (i32.const 70000) "far away")
  (data (memory $large) (i32.const 10) "near")
  (data (memory $small) (i64.const 300) "small")
  (data $passive "passive")
  (func (export "init") (memory.init $empty $passive (i32.const 5) (i32.const 0) (i32.const 7)))
  (func (export "spoil")
    (memory.fill $large (i32.const 0) (i32.const 7) (i32.const 196608))
    (memory.fill $small (i64.const 0) (i32.const 7) (i64.const 65536))))
"#;

fn world() -> World {
    World::pooled(PooledProvider::new(), Budgets::throughput)
}

fn guest(world: &World) -> CrateId {
    world.manager.register("guest", CrateSettings::new()).unwrap()
}

fn wasm() -> Vec<u8> {
    wrt_memory_guests::assemble(GUEST)
}

fn load(world: &World, id: CrateId, bytes: &[u8]) -> wasmtime::Result<Prepared> {
    // SAFETY: they are what a test of this file wrote, or are refused before anything of them is run: the hash is right only
    // of what `serialize` returned.
    unsafe { world.budgets.deserialize(&world.engine, id, bytes) }
}

fn refusal(world: &World, id: CrateId, bytes: &[u8]) -> String {
    let error = load(world, id, bytes).map(drop).unwrap_err();
    assert_eq!(world.manager.node(id).unwrap().used, 0, "what is refused is not charged");
    format!("{error:#}")
}

/// All bytes of a fresh instance's memories.
fn observe(world: &World, id: CrateId, prepared: &Prepared) -> [Vec<u8>; 3] {
    let pre = prepared.instantiate_pre(&Linker::new(&world.engine)).unwrap();
    let mut store = Store::new(&world.engine, world.budgets.account(id).unwrap());
    store.limiter(|account| account);
    let instance = pre.instantiate(&mut store, |account| account).unwrap();
    call::<_, (), ()>(&mut store, instance, "init", ()).unwrap();
    let all = ["empty", "large", "small"]
        .map(|name| instance.get_memory(&mut store, name).unwrap().data(&store).to_vec());
    call::<_, (), ()>(&mut store, instance, "spoil", ()).unwrap();
    all
}

#[test]
fn what_is_read_again_has_the_same_images_the_same_charges_and_the_same_behaviour() {
    let (first, second) = (world(), world());
    let (id, again) = (guest(&first), guest(&second));
    let prepared = first.budgets.prepare(&first.engine, id, &wasm()).unwrap();
    let bytes = prepared.serialize().unwrap();
    // As another process would, or this one with another manager.
    let loaded = load(&second, again, &bytes).unwrap();
    assert_eq!((prepared.image_bytes(), loaded.image_bytes()), (19 * 4096, 19 * 4096));
    assert_eq!(second.manager.node(again).unwrap().used, loaded.image_bytes());
    assert_eq!(
        first.manager.node(id).unwrap().requested,
        second.manager.node(again).unwrap().requested,
        "the bytes asked for are those of the data"
    );
    let mut plain = [vec![0; PAGE], vec![0; 3 * PAGE], vec![0; PAGE]];
    plain[0][5..12].copy_from_slice(b"passive");
    plain[1][70000..70008].copy_from_slice(b"far away");
    plain[1][10..14].copy_from_slice(b"near");
    plain[2][300..305].copy_from_slice(b"small");
    for _ in 0..3 {
        assert!(observe(&first, id, &prepared) == plain);
        assert!(observe(&second, again, &loaded) == plain);
    }
    assert_eq!(loaded.serialize().unwrap().len(), bytes.len());
    drop(loaded);
    assert_eq!(second.manager.node(again).unwrap().used, 0);
}

#[test]
fn a_module_without_images_is_read_again_too() {
    let (world, other) = (world(), World::new());
    let id = guest(&world);
    for text in ["(module (memory (export \"m\") 1))", "(module (func (export \"f\")))"] {
        let wasm = wrt_memory_guests::assemble(text);
        let bytes = world.budgets.prepare(&world.engine, id, &wasm).unwrap().serialize().unwrap();
        let loaded = load(&world, id, &bytes).unwrap();
        assert_eq!(loaded.image_bytes(), 0);
        assert!(load(&other, id, &bytes).is_err(), "the crate is of another manager");
    }
}

#[test]
fn whatever_is_cut_short_or_changed_is_refused() {
    let world = world();
    let id = guest(&world);
    let bytes = world.budgets.prepare(&world.engine, id, &wasm()).unwrap().serialize().unwrap();
    let places = || (0..64).chain((64..bytes.len()).step_by(997)).chain(bytes.len() - 64..bytes.len());
    for at in places() {
        let said = refusal(&world, id, &bytes[..at]);
        assert!(said.contains("cut short") || said.contains("its first bytes"), "{at}: {said}");
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let said = refusal(&world, id, &changed);
        let expected = match at {
            0..12 => "its first bytes are others",
            12..16 => "where this version of the adapter reads 1",
            _ => "cut short or changed",
        };
        assert!(said.contains(expected), "{at}: {said}");
    }
    let longer = [&bytes[..], b"more"].concat();
    assert!(refusal(&world, id, &longer).contains("cut short or changed"));
    assert!(load(&world, id, &bytes).is_ok());
}

#[test]
fn what_is_no_prepared_module_is_told_where_it_belongs() {
    let world = world();
    let id = guest(&world);
    assert!(refusal(&world, id, &wasm()).contains("`Budgets::prepare` takes"));
    let alone = Module::new(&world.engine, wasm()).unwrap().serialize().unwrap();
    assert!(refusal(&world, id, &alone).contains("`Module::deserialize` takes it"));
    assert!(refusal(&world, id, b"").contains("in 0 bytes"));
    let component = wrt_memory_guests::assemble("(component (core module (memory 1)))");
    let error = world.budgets.prepare(&world.engine, id, &component).map(drop).unwrap_err();
    assert!(error.to_string().contains("`Component::new`"), "{error}");
}

#[test]
fn code_for_another_engine_is_refused_and_says_why() {
    let world = world();
    let id = guest(&world);
    let bytes = world.budgets.prepare(&world.engine, id, &wasm()).unwrap().serialize().unwrap();

    let density = World::pooled(PooledProvider::new(), |budgets| budgets.density(8 << 20));
    let said = refusal(&density, guest(&density), &bytes);
    assert!(said.contains("not for this engine") && said.contains("memory"), "{said}");

    let newer = |config: &mut Config| {
        config.module_version(ModuleVersionStrategy::Custom("49.0.0".to_owned())).unwrap();
    };
    let newer = World::on(ProviderSelector::of_platform(), 1 << 30, newer, Budgets::throughput);
    let said = refusal(&newer, guest(&newer), &bytes);
    assert!(said.contains("not for this engine") && said.contains("version"), "{said}");

    // An engine that makes images itself, which wasmtime would panic over later.
    let images = Engine::new(&config()).unwrap();
    // SAFETY: as in `load`.
    let said = unsafe { world.budgets.deserialize(&images, id, &bytes) }.map(drop).unwrap_err();
    assert!(format!("{said:#}").contains("not for this engine"), "{said:#}");
}

#[test]
fn what_its_images_cost_can_be_denied_and_leaves_nothing() {
    let world = world();
    let id = guest(&world);
    let bytes = world.budgets.prepare(&world.engine, id, &wasm()).unwrap().serialize().unwrap();
    let poor = world.manager.register("poor", CrateSettings::new().limit(18 * 4096)).unwrap();
    let error = load(&world, poor, &bytes).map(drop).unwrap_err();
    assert!(matches!(error.downcast_ref::<MemoryError>(), Some(MemoryError::OverLimit { .. })), "{error:#}");
    assert_eq!(world.manager.node(poor).unwrap().used, 0);
}
