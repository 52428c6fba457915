//! The default of the process, which is set once: a program of its own.

use std::sync::Arc;

use wrt_memory::{
    CrateHandle, CrateSettings, Memory, Scope, UnifiedMemoryManager, install_default, with_memory,
};

#[test]
fn with_memory_takes_the_default_for_an_id_that_the_scopes_manager_did_not_make() {
    let make = || {
        let manager = Arc::new(UnifiedMemoryManager::builder().total(1 << 20).build().unwrap());
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        (manager, id)
    };
    let ((installed, id), (scoped, other)) = (make(), make());
    install_default(installed.clone()).unwrap();
    let _scope = Scope::enter(CrateHandle::new(scoped.clone(), other).unwrap());
    let requested = with_memory(id, |_: &mut Memory<8>| installed.node(id).unwrap().requested);
    assert_eq!(requested, Ok(8));
    let requested = with_memory(other, |_: &mut Memory<8>| scoped.node(other).unwrap().requested);
    assert_eq!(requested, Ok(8));
}
