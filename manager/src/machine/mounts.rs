//! Where the hierarchies of control groups that limit memory are mounted: `/proc/self/mountinfo`.

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `memory.limit_in_bytes`.
    One,
    /// `memory.max`, `memory.high`.
    Two,
}

/// A mounted hierarchy, or the part of one that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) version: Version,
    /// The group whose folder is mounted, by its path in the hierarchy: `/` for all of it.
    pub(super) root: String,
    /// Where it is mounted.
    pub(super) point: String,
}

/// The mounts of `/proc/self/mountinfo` that may limit memory. Where one hides another at the same place,
/// only the upper one. Lines that are none are left out: the kernel writes none.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE OPTIONS
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let mut place = place.split(' ').skip(3);
        let (Some(root), Some(point)) = (place.next(), place.next()) else { continue };
        let point = unescape(point);
        // Whatever it is, what was mounted there before is not seen any more.
        mounts.retain(|mount| mount.point != point);
        let mut kind = kind.split(' ');
        let version = match (kind.next(), kind.nth(1)) {
            (Some("cgroup2"), _) => Version::Two,
            (Some("cgroup"), Some(options)) if options.split(',').any(|option| option == "memory") => {
                Version::One
            }
            _ => continue,
        };
        mounts.push(Mount { version, root: unescape(root), point });
    }
    mounts
}

/// Undoes `\040`: the kernel writes blanks, line ends and backslashes by their octal codes.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_limit_memory_are_taken_and_the_upper_one_of_two() {
        let text = "\
            22 1 8:1 / / rw,relatime - ext4 /dev/sda rw\n\
            31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu\n\
            35 31 0:32 /docker/a\\040b /sys/fs/cgroup/mem\\134ory rw shared:9 master:2 - cgroup cgroup rw,memory\n\
            36 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            37 31 0:38 /below /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            38 31 0:39 / /mnt/hidden rw - cgroup2 cgroup2 rw\n\
            39 31 0:40 / /mnt/hidden rw - tmpfs tmpfs rw\n\
            garbage - cgroup2\n\
            \n\
            1 2 3 4";
        let mount =
            |version, root: &str, point: &str| Mount { version, root: root.into(), point: point.into() };
        assert_eq!(
            parse(text),
            [
                mount(Version::One, "/docker/a b", "/sys/fs/cgroup/mem\\ory"),
                mount(Version::Two, "/below", "/sys/fs/cgroup/unified"),
            ]
        );
    }

    #[test]
    fn what_only_looks_like_a_code_stays() {
        for (text, plain) in
            [("a\\", "a\\"), ("\\04", "\\04"), ("\\999", "\\999"), ("\\777", "\\777"), ("\\011", "\t")]
        {
            assert_eq!(unescape(text), plain);
        }
    }
}
