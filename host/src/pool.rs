//! How large the pool is: as somebody says, or as the machine allows.

use std::time::Duration;

use wrt_memory::{MachineLimit, MachineTotal};

use crate::sizes::{parse_size, show};

/// Time between two looks at what the machine allows.
pub const FOLLOW: Duration = Duration::from_secs(1);

/// A pool as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolSize {
    /// So many bytes.
    Bytes(usize),
    /// What the machine allows, less a reserve.
    Auto,
}

/// What the machine keeps of it for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// So many bytes.
    Bytes(usize),
    /// So much of it.
    Percent(u8),
}

/// A pool that follows the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What is followed.
    pub limit: MachineLimit,
    /// What it said when the plan was made.
    pub read: MachineTotal,
}

/// A pool's size, or `auto`, from text.
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_pool(text: &str) -> Result<PoolSize, String> {
    if text.trim().eq_ignore_ascii_case("auto") {
        return Ok(PoolSize::Auto);
    }
    parse_size(text)
        .map(PoolSize::Bytes)
        .map_err(|why| format!("{why}; or auto, for what the machine allows"))
}

/// A size, or a share of all there is such as `10%`, from text.
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_reserve(text: &str) -> Result<Reserve, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return parse_size(text)
            .map(Reserve::Bytes)
            .map_err(|why| format!("{why}; or a share of what the machine allows, such as 10%"));
    };
    match percent.trim_end().parse() {
        Ok(percent @ 0..=100) => Ok(Reserve::Percent(percent)),
        _ => Err(format!("`{text}` is not a share of what there is: write 0% to 100%, in whole per cent")),
    }
}

/// Bytes, where they are said or the machine says them, and the machine in that case.
///
/// # Errors
/// A reserve of a pool that is not the machine's; a machine that does not say.
pub fn resolve(
    pool: Option<PoolSize>,
    reserve: Option<Reserve>,
) -> Result<(Option<usize>, Option<Machine>), String> {
    let limit = match (pool, reserve) {
        (Some(PoolSize::Auto), None) => MachineLimit::new(),
        (Some(PoolSize::Auto), Some(Reserve::Bytes(bytes))) => {
            MachineLimit::new().reserve(bytes).reserve_percent(0)
        }
        (Some(PoolSize::Auto), Some(Reserve::Percent(percent))) => {
            MachineLimit::new().reserve(0).reserve_percent(percent)
        }
        (_, Some(_)) => {
            return Err("a reserve is kept of what the machine allows: it needs a pool of `auto`".to_owned());
        }
        (Some(PoolSize::Bytes(bytes)), None) => return Ok((Some(bytes), None)),
        (None, None) => return Ok((None, None)),
    };
    let read = limit.read().map_err(|error| format!("what the machine allows: {error}"))?;
    if read.total == 0 {
        return Err(format!("the machine leaves nothing for a pool: {}", told(&read)));
    }
    Ok((Some(read.total), Some(Machine { limit, read })))
}

/// Where a pool's size comes from, in words.
pub fn told(read: &MachineTotal) -> String {
    format!("{} allows {}, less {} for the host", read.source.display(), show(read.limit), show(read.reserve))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pool_and_no_reserve_is_explained() {
        assert_eq!(parse_pool("Auto"), Ok(PoolSize::Auto));
        assert_eq!(parse_pool("64KiB"), Ok(PoolSize::Bytes(65536)));
        assert!(parse_pool("automatic").unwrap_err().contains("or auto"));
        assert_eq!(parse_reserve("15%"), Ok(Reserve::Percent(15)));
        assert_eq!(parse_reserve("64KiB"), Ok(Reserve::Bytes(65536)));
        for bad in ["101%", "-1%", "1.5%", "%", "256%"] {
            assert!(parse_reserve(bad).unwrap_err().contains("0% to 100%"), "{bad}");
        }
        assert!(parse_reserve("lots").unwrap_err().contains("such as 10%"));
    }

    #[test]
    fn a_reserve_is_of_the_machine() {
        assert_eq!(resolve(Some(PoolSize::Bytes(5)), None).unwrap().0, Some(5));
        assert!(resolve(None, None).unwrap().0.is_none());
        for pool in [None, Some(PoolSize::Bytes(5))] {
            assert!(resolve(pool, Some(Reserve::Percent(1))).unwrap_err().contains("needs a pool of `auto`"));
        }
        let (bytes, machine) = resolve(Some(PoolSize::Auto), Some(Reserve::Bytes(1 << 20))).unwrap();
        let read = machine.unwrap().read;
        assert_eq!((bytes, read.reserve), (Some(read.limit - (1 << 20)), 1 << 20));
        // All but a half: the per cent of the default do not count beside what is said.
        let (_, machine) = resolve(Some(PoolSize::Auto), Some(Reserve::Percent(50))).unwrap();
        let read = machine.unwrap().read;
        assert_eq!(read.reserve, read.limit.div_ceil(2));
        let nothing = resolve(Some(PoolSize::Auto), Some(Reserve::Percent(100))).unwrap_err();
        assert!(nothing.contains("leaves nothing") && nothing.contains("for the host"), "{nothing}");
    }
}
