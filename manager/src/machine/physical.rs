//! How much memory the machine has: `/proc/meminfo`.

/// Bytes of `MemTotal`, or `None` where the text does not say.
pub(super) fn parse(text: &str) -> Option<u64> {
    let amount = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = amount.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_total_is_read_or_nothing_is() {
        assert_eq!(parse("MemTotal:       24643068 kB\nMemFree: 1 kB\n"), Some(24_643_068 << 10));
        for garbage in ["", "MemFree: 1 kB", "MemTotal: 1", "MemTotal: x kB", "MemTotal: -1 kB"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
        assert_eq!(parse("MemTotal: 18446744073709551615 kB"), None);
    }
}
