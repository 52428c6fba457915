//! What control groups allow: which folders count, and what their files say.
//!
//! A process may have what its own group and every group above it allow, so the least counts. In a container
//! the groups above the mounted one are not seen; version 1 tells their least all the same, as
//! `hierarchical_memory_limit`. A process whose group is not below what is mounted (a container that
//! shares its host's `/proc/self/cgroup`, or a namespace of groups that the process left) gets the limits of
//! the mounted group: in a container that one is its own.

use super::mounts::{Mount, Version};

/// Where the process is, as `/proc/self/cgroup` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// In the hierarchy of version 1 that limits memory.
    pub(super) one: Option<String>,
    /// In that of version 2.
    pub(super) two: Option<String>,
}

/// The groups in `/proc/self/cgroup`: lines of `ID:CONTROLLERS:PATH`, where version 2 has ID 0 and no controllers.
pub(super) fn groups(text: &str) -> Groups {
    let mut groups = Groups::default();
    for line in text.lines() {
        // A group's name may have colons.
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if id == "0" && controllers.is_empty() {
            groups.two = Some(path.to_owned());
        } else if controllers.split(',').any(|controller| controller == "memory") {
            groups.one = Some(path.to_owned());
        }
    }
    groups
}

/// The folders whose limits hold for a process in `group`, its own first, then upwards to the mounted one.
pub(super) fn folders(mount: &Mount, group: Option<&str>) -> Vec<String> {
    let point = mount.point.trim_end_matches('/');
    let below = group.and_then(|group| below(&mount.root, group)).unwrap_or_default();
    let mut folders = vec![point.to_owned()];
    for name in below {
        let above = folders.last().map_or(point, String::as_str);
        folders.push(format!("{above}/{name}"));
    }
    folders.reverse();
    folders
}

/// The names on the way from the group `root` to the group `group`. `None` where it is not below.
fn below<'g>(root: &str, group: &'g str) -> Option<Vec<&'g str>> {
    fn names(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|name| !name.is_empty())
    }
    let mut group = names(group);
    for name in names(root) {
        if group.next() != Some(name) {
            return None;
        }
    }
    let below: Vec<_> = group.collect();
    // `/../x`: outside of this namespace, so what `root` is called in it says nothing.
    let outside = root.split('/').chain(below.iter().copied()).any(|name| name == "..");
    (!outside).then_some(below)
}

/// A file of a group that says a limit.
pub(super) struct LimitFile {
    pub(super) name: &'static str,
    /// The limit in its text: `Err` where it makes no sense, `None` where there is no limit.
    pub(super) parse: fn(&str) -> Result<Option<u64>, ()>,
}

/// The files of a group that say limits.
pub(super) fn files(version: Version) -> &'static [LimitFile] {
    match version {
        Version::One => &[
            LimitFile { name: "memory.limit_in_bytes", parse: amount },
            LimitFile { name: "memory.stat", parse: hierarchical },
        ],
        Version::Two => &[
            LimitFile { name: "memory.max", parse: amount },
            // Above it a process is slowed down to a crawl: budgets are no good there.
            LimitFile { name: "memory.high", parse: amount },
        ],
    }
}

/// Bytes, or `max`. "No limit" of version 1 is a number above any machine's memory.
fn amount(text: &str) -> Result<Option<u64>, ()> {
    match text.trim() {
        "max" => Ok(None),
        number => number.parse().map(Some).map_err(drop),
    }
}

/// `hierarchical_memory_limit` of `memory.stat`, where it has one.
fn hierarchical(text: &str) -> Result<Option<u64>, ()> {
    let line = text.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "));
    line.map_or(Ok(None), amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_both_versions_are_found() {
        let text = "9:name=systemd:/\n4:cpu,memory:/a:b/c\n1:cpuset:/x\n0::/user.slice/my memory\nnonsense\n";
        let found = Groups { one: Some("/a:b/c".into()), two: Some("/user.slice/my memory".into()) };
        assert_eq!(groups(text), found);
        assert_eq!(groups("1:cpu,memory_other:/x\n"), Groups::default());
        assert_eq!(groups(""), Groups::default());
    }

    #[test]
    fn a_group_is_looked_for_below_the_mounted_one_by_whole_names() {
        for (root, group, expected) in [
            ("/", "/", &["/m"][..]),
            ("/", "/a/b", &["/m/a/b", "/m/a", "/m"]),
            ("/a", "/a/b", &["/m/b", "/m"]),
            ("/a/b", "/a/b", &["/m"]),
            // `/a` is no prefix of `/ab`.
            ("/a", "/ab/c", &["/m"]),
            ("/docker/x", "/docker/y", &["/m"]),
            // Outside of the namespace.
            ("/", "/../b", &["/m"]),
            ("/..", "/", &["/m"]),
            ("/..", "/../b", &["/m"]),
        ] {
            let mount = Mount { version: Version::Two, root: root.into(), point: "/m".into() };
            assert_eq!(folders(&mount, Some(group)), expected, "{group} below {root}");
        }
        let mount = Mount { version: Version::Two, root: "/".into(), point: "/m/".into() };
        assert_eq!(folders(&mount, None), ["/m"]);
    }

    #[test]
    fn limits_are_numbers_or_max_and_nothing_else() {
        assert_eq!(amount("max\n"), Ok(None));
        assert_eq!(amount("1073741824\n"), Ok(Some(1 << 30)));
        for garbage in ["", "MAX", "1G", "-1", "1 2", "99999999999999999999999"] {
            assert_eq!(amount(garbage), Err(()), "{garbage}");
        }
        assert_eq!(hierarchical("cache 0\nhierarchical_memory_limit 4096\nx 1\n"), Ok(Some(4096)));
        assert_eq!(hierarchical("cache 0\n"), Ok(None));
        assert_eq!(hierarchical("hierarchical_memory_limit much\n"), Err(()));
    }
}
