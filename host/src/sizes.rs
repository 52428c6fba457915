//! Sizes and durations as people write them.
//!
//! A size is a number and a unit: `64MiB`, `1.5 GiB` (powers of 1024), `64KB` (powers of 1000), `65536` (bytes).
//! A single letter is meant as in `docker run -m` and `java -Xmx`: `64M` is 64 MiB.

use std::time::Duration;

/// Units of bytes, in lower case.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Bytes, from text.
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_size(text: &str) -> Result<usize, String> {
    const RIGHT: &str = "write a number and a unit, such as 64MiB, 64KB or 65536";
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    if number.is_empty() {
        return Err(format!("`{text}` is not a size: {RIGHT}"));
    }
    let Some(&(_, scale)) = UNITS.iter().find(|(known, _)| unit.eq_ignore_ascii_case(known)) else {
        return Err(format!(
            "`{text}` is not a size: there is no unit `{unit}`; use KiB, MiB, GiB (powers of 1024), KB, MB, GB \
             (powers of 1000), or none for bytes"
        ));
    };
    let not_a_number = || format!("`{text}` is not a size: `{number}` is not a number; {RIGHT}");
    let too_large = || format!("`{text}` is too large: the most is {} bytes", usize::MAX);
    let digits = number.replace('_', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    if whole.is_empty() || (digits.contains('.') && fraction.is_empty()) || fraction.contains('.') {
        return Err(not_a_number());
    }
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let mut bytes = whole.checked_mul(u128::from(scale)).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        let parts: u128 = fraction.parse().ok().filter(|_| fraction.len() <= 18).ok_or_else(not_a_number)?;
        let (ones, rest) = (10u128.pow(fraction.len() as u32), parts * u128::from(scale));
        if !rest.is_multiple_of(ones) {
            return Err(format!("`{text}` is not a whole number of bytes"));
        }
        bytes += rest / ones;
    }
    usize::try_from(bytes).map_err(|_| too_large())
}

/// A size, short: `64 KiB`, `15.3 MiB`, `100 B`.
pub fn show(bytes: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value.fract() == 0.0 { format!("{value} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A size, short and exact: `15.3 MiB (16056320 bytes)`.
pub fn show_exact(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} bytes") } else { format!("{} ({bytes} bytes)", show(bytes)) }
}

/// A duration, from text: `10s`, `500ms`, `2m`, `1.5s`; a bare number is seconds.
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        format!("`{text}` is not a duration: write a number and a unit, such as 10s, 500ms or 2m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("65536", 65536),
            ("0", 0),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("64KB", 64_000),
            ("64K", 65536),
            ("1.5GiB", 3 << 29),
            ("0.5KiB", 512),
            ("1_000_000", 1_000_000),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_explained() {
        for (text, why) in [
            ("", "write a number and a unit"),
            ("MiB", "write a number and a unit"),
            ("-1", "write a number and a unit"),
            ("64XB", "no unit `XB`; use KiB"),
            ("1.2.3K", "not a number"),
            ("1.K", "not a number"),
            (".5K", "not a number"),
            ("0.3K", "not a whole number of bytes"),
            ("16777216TiB", "too large"),
            ("999999999999999999999999999999999999999999", "too large"),
        ] {
            let message = parse_size(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_not_rounded_to_another_unit() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(65536), "64 KiB");
        assert_eq!(show(65537), "64.0 KiB");
        assert_eq!(show(16_056_320), "15.3 MiB");
        assert_eq!(show_exact(65536), "64 KiB (65536 bytes)");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["", "s", "10 parsecs", "-1s", "1e3s", "..s"] {
            assert!(parse_duration(bad).unwrap_err().contains("such as 10s"), "{bad}");
        }
    }
}
