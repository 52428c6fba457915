//! Machines made of files: what they allow, and managers that follow them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::MachineFollower;
use crate::settings::CrateSettings;
use crate::sync::Arc;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// A machine of 8 GiB.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.file("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
        machine
    }

    /// With a hierarchy of version 2, and the process in a group of it.
    fn two(root: &str, group: &str) -> Self {
        let machine = Self::new();
        machine.file(
            "proc/self/mountinfo",
            &format!("30 20 0:28 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        );
        machine.file("proc/self/cgroup", &format!("0::{group}\n"));
        machine
    }

    /// With one of version 1.
    fn one(root: &str, group: &str) -> Self {
        let machine = Self::new();
        machine.file(
            "proc/self/mountinfo",
            &format!("35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
        );
        machine.file("proc/self/cgroup", &format!("4:memory:{group}\n"));
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn limit(&self) -> MachineLimit {
        MachineLimit::new().root(self.0.path()).reserve(0).reserve_percent(0)
    }

    /// The limit and the file that says it.
    #[track_caller]
    fn says(&self, limit: usize, source: &str) {
        let read = self.limit().read().unwrap();
        let path = read.source.strip_prefix(self.0.path()).unwrap().display().to_string();
        assert_eq!((read.limit, path.as_str()), (limit, source));
        assert_eq!((read.total, read.reserve), (limit, 0));
    }

    fn fails(&self) -> String {
        self.limit().read().unwrap_err().to_string()
    }
}

#[test]
fn without_groups_it_is_physical_memory() {
    Machine::new().says(8 * GIB, "proc/meminfo");
    // Mounts, but none of groups.
    let machine = Machine::new();
    machine.file("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda rw\n");
    machine.says(8 * GIB, "proc/meminfo");
}

#[test]
fn version_2_has_the_least_of_max_and_high() {
    let machine = Machine::two("/", "/host.slice");
    machine.file("sys/fs/cgroup/host.slice/memory.max", "1073741824\n");
    machine.file("sys/fs/cgroup/host.slice/memory.high", "max\n");
    machine.says(GIB, "sys/fs/cgroup/host.slice/memory.max");
    machine.file("sys/fs/cgroup/host.slice/memory.high", "536870912\n");
    machine.says(GIB / 2, "sys/fs/cgroup/host.slice/memory.high");
    machine.file("sys/fs/cgroup/host.slice/memory.high", "max\n");
    machine.file("sys/fs/cgroup/host.slice/memory.max", "max\n");
    machine.says(8 * GIB, "proc/meminfo");
}

#[test]
fn a_group_above_may_allow_less_at_every_level() {
    let levels = ["sys/fs/cgroup/a/b/c", "sys/fs/cgroup/a/b", "sys/fs/cgroup/a"];
    for (at, level) in levels.iter().enumerate() {
        let machine = Machine::two("/", "/a/b/c");
        for folder in levels {
            machine.file(&format!("{folder}/memory.max"), "2147483648");
        }
        let file = format!("{level}/{}", if at % 2 == 0 { "memory.max" } else { "memory.high" });
        machine.file(&file, "4194304");
        machine.says(4 * MIB, &file);
    }
    // A group beside says nothing.
    let machine = Machine::two("/", "/a/b");
    machine.file("sys/fs/cgroup/a/other/memory.max", "4194304");
    machine.says(8 * GIB, "proc/meminfo");
}

#[test]
fn a_limit_above_the_machines_memory_is_none() {
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max", "1099511627776");
    machine.says(8 * GIB, "proc/meminfo");
    let machine = Machine::one("/", "/a");
    machine.file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712");
    machine.says(8 * GIB, "proc/meminfo");
}

#[test]
fn version_1_has_its_groups_and_what_it_says_of_those_above() {
    let machine = Machine::one("/", "/docker/x");
    machine.file("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "2147483648\n");
    machine.says(2 * GIB, "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes");
    machine.file("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "1073741824\n");
    machine.says(GIB, "sys/fs/cgroup/memory/docker/memory.limit_in_bytes");
    // In a container the groups above are not seen.
    let machine = Machine::one("/docker/x", "/docker/x");
    machine.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    machine.says(2 * GIB, "sys/fs/cgroup/memory/memory.limit_in_bytes");
    machine.file("sys/fs/cgroup/memory/memory.stat", "cache 1\nhierarchical_memory_limit 1073741824\n");
    machine.says(GIB, "sys/fs/cgroup/memory/memory.stat");
}

#[test]
fn of_both_versions_the_least_counts() {
    let machine = Machine::new();
    machine.file(
        "proc/self/mountinfo",
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         36 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    );
    machine.file("proc/self/cgroup", "4:memory:/one\n0::/two\n");
    // The usual: version 2 is there, but memory is version 1's.
    machine.file("sys/fs/cgroup/memory/one/memory.limit_in_bytes", "2147483648");
    machine.says(2 * GIB, "sys/fs/cgroup/memory/one/memory.limit_in_bytes");
    machine.file("sys/fs/cgroup/unified/two/memory.max", "1073741824");
    machine.says(GIB, "sys/fs/cgroup/unified/two/memory.max");
}

#[test]
fn a_part_of_the_hierarchy_that_is_mounted_elsewhere_is_found_there() {
    // `mount --bind /sys/fs/cgroup/machine.slice "/mnt/my groups"`.
    let machine = Machine::new();
    machine.file(
        "proc/self/mountinfo",
        "30 20 0:28 /machine.slice /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n",
    );
    machine.file("proc/self/cgroup", "0::/machine.slice/vm/app\n");
    machine.file("mnt/my groups/vm/memory.max", "1073741824");
    machine.says(GIB, "mnt/my groups/vm/memory.max");
    machine.file("mnt/my groups/memory.max", "4194304");
    machine.says(4 * MIB, "mnt/my groups/memory.max");
}

#[test]
fn a_group_that_is_not_visible_has_the_limits_of_the_mounted_one() {
    for (root, group) in [
        // The host's name of the group, and a mount of a namespace of its own.
        ("/", "/system.slice/docker-x.scope"),
        ("/docker/x", "/kubepods/y"),
        // Moved out of the namespace.
        ("/", "/../other"),
        ("/../..", "/"),
    ] {
        for machine in [Machine::two(root, group), Machine::one(root, group)] {
            machine.file("sys/fs/cgroup/memory.max", "1073741824");
            machine.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824");
            assert_eq!(machine.limit().read().unwrap().limit, GIB, "{group} below {root}");
        }
    }
    // Nothing outside of the mount is ever looked at.
    let machine = Machine::two("/", "/../../secret");
    machine.file("sys/secret/memory.max", "1");
    machine.file("secret/memory.max", "1");
    machine.says(8 * GIB, "proc/meminfo");
}

#[test]
fn what_makes_no_sense_is_an_error_with_the_file_and_never_no_limit() {
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max", "1G\n");
    let error = machine.fails();
    assert!(error.contains("a/memory.max: expected an amount of memory, and it says `1G`"), "{error}");
    let machine = Machine::one("/", "/a");
    machine.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "");
    assert!(machine.fails().contains("memory.limit_in_bytes: expected"));
    let machine = Machine::new();
    machine.file("proc/meminfo", "nothing of the kind");
    assert!(machine.fails().contains("meminfo: expected"));
    // A folder where a file should be cannot be read, by nobody.
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max/x", "");
    assert!(
        matches!(machine.limit().read(), Err(MachineError::Read { path, .. }) if path.ends_with("memory.max"))
    );
    assert!(matches!(
        machine.limit().reserve_percent(101).read(),
        Err(MachineError::Invalid { what }) if what.contains("0 to 100")
    ));
}

#[test]
fn where_nothing_says_anything_that_is_said() {
    let empty = tempfile::tempdir().unwrap();
    let error = MachineLimit::new().root(empty.path()).read().unwrap_err();
    assert!(matches!(&error, MachineError::Unknown { root } if root == empty.path()), "{error}");
    // Groups alone are enough.
    let machine = Machine::two("/", "/a");
    fs::remove_file(machine.0.path().join("proc/meminfo")).unwrap();
    machine.file("sys/fs/cgroup/a/memory.max", "1048576");
    machine.says(MIB, "sys/fs/cgroup/a/memory.max");
    assert_eq!(machine.limit().read().unwrap().largest, MIB);
}

#[test]
fn a_file_nobody_may_read_is_an_error() {
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max", "1048576");
    let path = machine.0.path().join("sys/fs/cgroup/a/memory.max");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Unless it is the superuser who tries.
    if fs::read(&path).is_err() {
        assert!(matches!(machine.limit().read(), Err(MachineError::Read { .. })));
    } else {
        machine.says(MIB, "sys/fs/cgroup/a/memory.max");
    }
}

#[test]
fn the_reserve_is_the_larger_of_bytes_and_per_cent_and_at_most_all() {
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max", "1073741824");
    for (limit, reserve) in [
        (machine.limit().reserve(200 * MIB).reserve_percent(10), 200 * MIB),
        (machine.limit().reserve(50 * MIB).reserve_percent(10), GIB.div_ceil(10)),
        (machine.limit().reserve(usize::MAX), GIB),
        (machine.limit().reserve_percent(100), GIB),
        (MachineLimit::new().root(machine.0.path()), GIB.div_ceil(10)),
    ] {
        let read = limit.read().unwrap();
        assert_eq!((read.limit, read.reserve, read.total), (GIB, reserve, GIB - reserve));
        assert_eq!(read.largest, 8 * GIB);
    }
    machine.file("sys/fs/cgroup/a/memory.max", "67108864");
    assert_eq!(MachineLimit::new().root(machine.0.path()).read().unwrap().reserve, DEFAULT_RESERVE);
}

#[test]
fn this_machine_can_be_read() {
    let read = MachineLimit::new().read().unwrap();
    assert!(read.limit > MIB && read.limit <= read.largest, "{read:?}");
    assert_eq!(read.total, read.limit - read.reserve);
}

/// A machine whose group allows `bytes`, and a manager with that total.
fn followed(bytes: usize) -> (Machine, Arc<UnifiedMemoryManager>) {
    let machine = Machine::two("/", "/a");
    machine.file("sys/fs/cgroup/a/memory.max", &bytes.to_string());
    let read = machine.limit().read().unwrap();
    let manager = UnifiedMemoryManager::builder().total_from_machine(&read).stock(0).build().unwrap();
    (machine, Arc::new(manager))
}

#[test]
fn a_manager_follows_up_and_down() {
    let (machine, manager) = followed(GIB);
    assert_eq!((manager.pool().limit, manager.pool().held), (GIB, GIB));
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    let charge = manager.charge(id, GIB, GIB).unwrap();
    machine.file("sys/fs/cgroup/a/memory.max", "max");
    let change = machine.limit().refresh(&manager).unwrap();
    assert_eq!((change.before, change.total, change.adjusted), (GIB, 8 * GIB, None));
    machine.file("sys/fs/cgroup/a/memory.max", "4194304");
    let change = machine.limit().refresh(&manager).unwrap();
    assert_eq!((change.before, change.total), (8 * GIB, 4 * MIB));
    let said = change.to_string();
    assert!(said.contains("memory.max allows 4194304 bytes") && said.contains("has 4194304 now"), "{said}");
    // More is given out than there is: it shrinks as it comes back.
    assert_eq!(manager.pool().used, GIB);
    assert!(manager.charge(id, 1, 1).is_err());
    drop(charge);
    assert_eq!((manager.pool().used, manager.pool().held), (0, 4 * MIB));
}

#[test]
fn below_the_guarantees_the_total_is_what_is_guaranteed_and_the_figures_are_told() {
    let (machine, manager) = followed(GIB);
    let id = manager.register("guest", CrateSettings::new().guarantee(100 * MIB)).unwrap();
    let guaranteed = manager.pool().floor;
    machine.file("sys/fs/cgroup/a/memory.max", "4194304");
    let change = machine.limit().refresh(&manager).unwrap();
    assert_eq!((change.total, manager.pool().limit), (guaranteed, guaranteed));
    assert!(matches!(
        change.adjusted,
        Some(MemoryError::LimitBelowGuarantee { asked, guaranteed: told, .. }) if asked == 4 * MIB && told == guaranteed
    ));
    drop(manager.charge(id, 100 * MIB, 100 * MIB).expect("within the guarantee"));
    // Once nothing is guaranteed, it follows.
    manager.set_guarantee(id, 0).unwrap();
    let change = machine.limit().refresh(&manager).unwrap();
    assert_eq!((change.total, change.adjusted), (4 * MIB, None));
}

#[test]
fn above_what_the_manager_counts_the_total_is_that() {
    let machine = Machine::new();
    let manager = UnifiedMemoryManager::builder().total(MIB).build().unwrap();
    let change = machine.limit().refresh(&manager).unwrap();
    assert_eq!((change.before, change.total), (MIB, manager.largest_total()));
    assert!(matches!(change.adjusted, Some(MemoryError::TooLarge { asked, .. }) if asked == 8 * GIB));
}

#[test]
fn an_error_leaves_the_total_as_it_was() {
    let (machine, manager) = followed(GIB);
    machine.file("sys/fs/cgroup/a/memory.max", "?");
    machine.limit().refresh(&manager).unwrap_err();
    assert_eq!(manager.pool().limit, GIB);
}

#[test]
fn the_thread_follows_tells_what_is_new_and_ends_when_it_is_dropped() {
    let (machine, manager) = followed(GIB);
    let (tell, told) = channel();
    let follower = machine
        .limit()
        .follow(&manager, Duration::from_millis(1), move |news| {
            drop(tell.send(news.map_err(|error| error.to_string())))
        })
        .unwrap();
    let wait = Duration::from_secs(60);
    // Written beside and moved there: a file that is half written is not what this is about.
    let set = |text: &str| {
        machine.file("sys/fs/cgroup/a/new", text);
        let folder = machine.0.path().join("sys/fs/cgroup/a");
        fs::rename(folder.join("new"), folder.join("memory.max")).unwrap();
    };
    set("4194304");
    let change = told.recv_timeout(wait).unwrap().unwrap();
    assert_eq!((change.before, change.total, manager.pool().limit), (GIB, 4 * MIB, 4 * MIB));
    set("?");
    assert!(told.recv_timeout(wait).unwrap().unwrap_err().contains("memory.max"));
    // The same again is no news; that it is over is.
    std::thread::sleep(Duration::from_millis(20));
    set("4194304");
    assert_eq!(told.recv_timeout(wait).unwrap().unwrap().total, 4 * MIB);
    assert!(told.try_recv().is_err());
    drop(follower);
    set("1048576");
    // Its end of the channel is gone: the thread has ended.
    assert!(told.recv_timeout(wait).is_err());
    assert_eq!(manager.pool().limit, 4 * MIB);
}

#[test]
fn the_thread_ends_with_its_manager_and_may_be_dropped_by_whom_it_tells() {
    let (machine, manager) = followed(GIB);
    let (tell, told) = channel::<()>();
    let follower = machine
        .limit()
        .follow(&manager, Duration::from_millis(1), move |_| tell.send(()).unwrap_or(()))
        .unwrap();
    drop(manager);
    assert!(told.recv_timeout(Duration::from_secs(60)).is_err());
    drop(follower);

    let (machine, manager) = followed(GIB);
    machine.file("sys/fs/cgroup/a/memory.max", "4194304");
    let (give, given) = channel::<MachineFollower>();
    let (tell, told) = channel();
    let follower = machine
        .limit()
        .follow(&manager, Duration::from_millis(1), move |_| {
            drop(given.recv().unwrap());
            tell.send(()).unwrap();
        })
        .unwrap();
    give.send(follower).unwrap();
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(
        machine.limit().follow(&manager, Duration::ZERO, |_| {}),
        Err(MachineError::Invalid { .. })
    ));
}

/// Raises a flag when it goes.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the machine allows from one moment to the next, while three threads charge: a guarantee is kept, no
    /// charge takes what is given out above the total that was there when it was granted, and every byte
    /// comes back.
    #[test]
    fn following_while_threads_charge_breaks_nothing(
        limits in prop::collection::vec(0..3 * MIB, 1..40), stock in prop::sample::select(vec![0, 4096, 65536]),
    ) {
        let machine = Machine::two("/", "/a");
        let write = |bytes: usize| machine.file("sys/fs/cgroup/a/memory.max", &bytes.to_string());
        write(2 * MIB);
        let manager = UnifiedMemoryManager::builder().total(2 * MIB).stock(stock).build().unwrap();
        let sure = manager.register("sure", CrateSettings::new().guarantee(MIB / 2)).unwrap();
        let others = [0, 1].map(|_| manager.register("other", CrateSettings::new()).unwrap());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sure = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let charge = manager.charge(sure, MIB / 2, MIB / 2);
                    if charge.is_err() {
                        return false;
                    }
                }
                true
            });
            for id in others {
                let (manager, over) = (&manager, &over);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        match manager.charge(id, 0, 40_000) {
                            Ok(charge) => held.push(charge),
                            Err(_) => held.clear(),
                        }
                    }
                });
            }
            // However this ends: the threads end too.
            let _ended = Raise(&over);
            for &bytes in &limits {
                write(bytes);
                let change = machine.limit().refresh(&manager).unwrap();
                let pool = manager.pool();
                // The pool never holds above its total what is not in use, and what is promised is backed.
                assert!(pool.held <= pool.limit.max(pool.used), "{pool:?}");
                assert!(pool.floor <= pool.limit && pool.used <= pool.held, "{pool:?}");
                assert_eq!(change.total, bytes.max(MIB / 2));
                assert_eq!(change.adjusted.is_some(), bytes < MIB / 2);
            }
            over.store(true, Ordering::Relaxed);
            assert!(sure.join().unwrap(), "a charge within the guarantee was denied");
        });
        write(MIB / 2);
        machine.limit().refresh(&manager).unwrap();
        for id in others.into_iter().chain([sure]) {
            prop_assert_eq!(manager.node(id).unwrap().used, 0);
            manager.retire(id).unwrap();
        }
        let pool = manager.pool();
        prop_assert_eq!((pool.used, pool.held, pool.limit, pool.floor), (0, MIB / 2, MIB / 2, 0));
    }
}
