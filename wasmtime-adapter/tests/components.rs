//! A component is one crate: all its core instances are on its budget.

mod support;

use support::{PAGE, World, figures, over_limit};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, Linker};
use wrt_memory_wasmtime::{OnDenial, StoreAccount};

fn component(world: &World, name: &str) -> Component {
    Component::new(&world.engine, wrt_memory_guests::wat(name)).unwrap()
}

fn instantiate(store: &mut Store<StoreAccount>, component: &Component) -> wasmtime::Result<Instance> {
    Linker::new(component.engine()).instantiate(store, component)
}

fn call<P, R>(
    store: &mut Store<StoreAccount>,
    instance: Instance,
    name: &str,
    params: P,
) -> wasmtime::Result<R>
where
    P: wasmtime::component::ComponentNamedList + wasmtime::component::Lower,
    R: wasmtime::component::ComponentNamedList + wasmtime::component::Lift,
{
    let function = instance.get_typed_func::<P, R>(&mut *store, name)?;
    function.call(store, params)
}

#[test]
fn a_components_core_instances_share_one_budget() {
    let world = World::new();
    let id = world.crate_of("component", 3 * PAGE);
    let parts = component(&world, "component_two_instances");
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &parts).unwrap();
    assert_eq!(world.figures(id), figures(2 * PAGE, 2 * PAGE, 0));
    assert_eq!(call::<_, (i32,)>(&mut store, instance, "grow", (1u32,)).unwrap(), (1,));
    assert_eq!(call::<_, (i32,)>(&mut store, instance, "grow", (1u32,)).unwrap(), (-1,));
    assert_eq!(call::<(), (u32,)>(&mut store, instance, "sizes", ()).unwrap(), (3,));
    assert_eq!(world.figures(id), figures(3 * PAGE, 3 * PAGE, 1));
    // Another of the same component: nothing is left for it.
    let mut other = world.store(id);
    let error = instantiate(&mut other, &parts).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, 3 * PAGE, 3 * PAGE, 0));
    drop((store, other));
    assert_eq!(world.figures(id), figures(0, 3 * PAGE, 2));
    world.all_back([id]);
}

#[test]
fn a_component_of_which_half_fits_is_refused_and_leaves_nothing() {
    let world = World::new();
    let id = world.crate_of("component", PAGE);
    let mut store = world.store(id);
    let error = instantiate(&mut store, &component(&world, "component_two_instances")).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, PAGE, PAGE, 0));
    // The first core instance lives until the store ends.
    assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 1), 0));
    drop(store);
    assert_eq!(world.figures(id), figures(0, PAGE, 1));
    world.all_back([id]);
}

#[test]
fn a_component_that_takes_all_it_can_gets_its_limit() {
    let world = World::new();
    let id = world.crate_of("component", 10 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &component(&world, "component_hog")).unwrap();
    assert_eq!(call::<(), (u32,)>(&mut store, instance, "run", ()).unwrap(), (9,));
    assert_eq!(world.figures(id), figures(10 * PAGE, 10 * PAGE, 1));
    assert_eq!(over_limit(&store.data().last_denial().unwrap()), (PAGE, 10 * PAGE, 10 * PAGE, 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_components_denial_can_be_a_trap() {
    let world = World::new();
    let id = world.crate_of("component", 2 * PAGE);
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &component(&world, "component_hog")).unwrap();
    let error = call::<(), (u32,)>(&mut store, instance, "run", ()).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, 2 * PAGE, 2 * PAGE, 0));
    drop(store);
    assert_eq!(world.figures(id), figures(0, 2 * PAGE, 1));
    world.all_back([id]);
}
