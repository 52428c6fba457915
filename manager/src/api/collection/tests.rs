use std::fmt::Write;

use super::*;
use crate::{CrateSettings, UnifiedMemoryManager};

fn with_limit(limit: usize, work: impl FnOnce(&UnifiedMemoryManager, CrateHandle<'_>)) {
    let manager = UnifiedMemoryManager::builder().total(1 << 20).build().unwrap();
    let id = manager.register("guest", CrateSettings::new().limit(limit)).unwrap();
    work(&manager, CrateHandle::new(&manager, id).unwrap());
    assert_eq!(manager.node(id).unwrap().used, 0, "a collection kept bytes");
    manager.retire(id).unwrap();
    assert_eq!(manager.pool().used, 0);
}

/// Bytes a vector may fill; few in Miri.
const ROOM: usize = if cfg!(miri) { 512 } else { 4096 };

#[test]
fn a_vector_grows_to_the_last_byte_of_its_budget_and_gives_the_refused_element_back() {
    with_limit(ROOM, |manager, handle| {
        let mut vec: CrateVec<u64> = handle.collection(0).unwrap();
        let rejected = loop {
            if let Err(rejected) = vec.try_push(vec.len() as u64) {
                break rejected;
            }
            assert!(manager.node(handle.id()).unwrap().used <= ROOM);
        };
        assert_eq!(rejected.value, vec.len() as u64);
        assert!(matches!(rejected.error, MemoryError::OverLimit { limit: ROOM, .. }));
        assert!(vec.iter().copied().eq(0..vec.len() as u64), "a refusal changed what was there");
        // Old and new bytes are alive together while they are copied.
        assert!(vec.len() * 8 >= ROOM / 2 - 16, "{} elements", vec.len());
    });
}

#[test]
fn a_vector_doubles_where_its_budget_allows_that_and_is_exact_where_not() {
    with_limit(4096, |_, handle| {
        let mut vec: CrateVec<u8> = handle.collection(100).unwrap();
        vec.try_reserve(101).unwrap();
        assert_eq!(vec.capacity(), 200);
    });
    with_limit(350, |_, handle| {
        let mut vec: CrateVec<u8> = handle.collection(100).unwrap();
        vec.try_reserve(101).unwrap();
        vec.try_reserve(201).unwrap_err();
        assert_eq!(vec.capacity(), 200);
    });
}

#[test]
fn a_refusal_names_the_limit_only_where_that_is_in_the_way() {
    let manager = UnifiedMemoryManager::builder().total(1000).stock(0).build().unwrap();
    let id = manager.register("guest", CrateSettings::new().limit(500)).unwrap();
    let hog = manager.register("hog", CrateSettings::new()).unwrap();
    let _taken = manager.charge(hog, 600, 600).unwrap();
    let reserve = |bytes| {
        let mut vec: CrateVec<u8> = CrateHandle::new(&manager, id).unwrap().collection(0).unwrap();
        vec.try_reserve(bytes).unwrap_err()
    };
    assert!(matches!(reserve(501), MemoryError::OverLimit { limit: 500, .. }));
    assert!(matches!(reserve(500), MemoryError::PoolExhausted { .. }));
    assert!(matches!(reserve(401), MemoryError::PoolExhausted { .. }));
}

#[test]
fn a_string_takes_all_of_a_text_or_none() {
    with_limit(64, |_, handle| {
        let mut text: CrateString = handle.collection(16).unwrap();
        text.try_push_str("figures: ").unwrap();
        assert!(text.try_push_str(&"x".repeat(64)).is_err());
        assert_eq!(&*text, "figures: ");
        write!(text, "{}", 7).unwrap();
        assert_eq!(text.to_string(), "figures: 7");
    });
}

#[test]
fn a_boxed_slice_has_its_length_and_no_more_room() {
    with_limit(4096, |manager, handle| {
        let mut slice: CrateBox<u32> = handle.collection(1024).unwrap();
        assert_eq!((slice.len(), manager.node(handle.id()).unwrap().used), (1024, 4096));
        slice[1023] = 5;
        assert_eq!(slice.iter().sum::<u32>(), 5);
        assert!(handle.collection::<CrateBox<u8>>(1).is_err());
    });
}

#[test]
fn a_map_keeps_what_it_has_when_an_entry_is_refused() {
    with_limit(2048, |_, handle| {
        let mut map: CrateMap<u32, u32> = handle.collection(4).unwrap();
        let mut count = 0;
        let (key, _) = loop {
            match map.try_insert(count, count * 2) {
                Ok(_) => count += 1,
                Err(rejected) => break rejected.value,
            }
        };
        assert_eq!((key, map.len()), (count, count as usize));
        assert!((0..count).all(|key| map.get(&key) == Some(&(key * 2))));
        assert_eq!(map.try_insert(0, 9).unwrap(), Some(0), "replacing needs no room");
        assert_eq!(map.remove(&0), Some(9));
    });
}

#[test]
fn a_collection_too_large_for_any_count_is_refused() {
    with_limit(4096, |_, handle| {
        assert!(matches!(handle.collection::<CrateVec<u64>>(usize::MAX), Err(MemoryError::OverLimit { .. })));
        assert!(handle.collection::<CrateMap<u64, u64>>(usize::MAX / 2).is_err());
    });
}
