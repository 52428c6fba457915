//! `cargo xtask firmware`: the firmwares of `firmware/`, built, run in QEMU and measured.
//!
//! A run is good if the program ended with status 0 before its time was up, and printed what shows
//! that it did what it is for. The figures are of two kinds: flash and statics from the sections of the ELF
//! file, peaks of heap, region and stack from what the firmware prints at its end.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use object::elf::{SHF_ALLOC, SHF_WRITE};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind};

use crate::tools::{add_target, cargo, execute, target_dir};

/// Build the firmwares, run them in an emulator and measure them
#[derive(clap::Args)]
pub struct Args {
    /// Only these, by package: without names, all
    names: Vec<String>,
}

struct Firmware {
    package: &'static str,
    target: &'static str,
    /// What QEMU calls the board.
    machine: &'static str,
    /// Bytes of RAM in all, stack included, that it may take.
    ram: Option<usize>,
    /// How long it may run.
    patience: Duration,
    /// What it must print, besides ending well.
    prints: &'static [&'static str],
}

const FIRMWARES: &[Firmware] = &[
    Firmware {
        package: "firmware-manager",
        target: "thumbv6m-none-eabi",
        machine: "microbit",
        ram: Some(16 << 10),
        patience: Duration::from_secs(30),
        prints: &[
            "denied: crate `logger` asked for 528 bytes: 2112 of its limit of 2304 are in use, 192 are free",
            "denied: crate `plugin` asked for 1008 bytes: `pool` has given out 5664 of 5888",
            "guarantee: motor has its 1536 bytes while the pool is empty",
            "reuse: successor has the hog's bytes, and they are zero",
            "has been retired; register it again",
            "interrupts: 2000 allocated in the midst of ",
            "every byte is back: 5888 of 5888 free in one block",
        ],
    },
    Firmware {
        package: "firmware-wasmi",
        target: "thumbv7em-none-eabi",
        machine: "mps2-an386",
        ram: Some(192 << 10),
        patience: Duration::from_secs(120),
        prints: &[
            "hog: got 1 page, then -1",
            "denied: crate `hog` asked for ",
            "denied: crate `table_grow` asked for ",
            "small pages: grew from 2048 bytes to 4096, and no byte further",
            "reads zeroes and its own data",
            "refused: 10000000 times memory.grow gave -1, and the guest ended normally",
            "recursion: trapped twice",
            "largest maximum: grew to its 2 pages, then -1",
            "refused at load: hog: ",
            "refused at load: memory64: ",
            "cycles: 1000 times a hog loaded, run and unloaded: free and largest free as before",
            "estimate: table_grow: ",
            "empty heap: a guest trapped 100 times, and the firmware is there",
            "set aside: with nothing free, a guest was loaded, run and unloaded 10 times in its room",
            "every byte is back: ",
        ],
    },
    Firmware {
        package: "firmware-stock",
        target: "thumbv7em-none-eabi",
        machine: "mps2-an386",
        ram: None,
        patience: Duration::from_secs(60),
        prints: &["hog: got 1 page, then -1", "reuse: ", "recursion: trapped twice"],
    },
];

const QEMU: &str = "qemu-system-arm";

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    for name in &args.names {
        let known: Vec<_> = FIRMWARES.iter().map(|firmware| firmware.package).collect();
        ensure!(known.contains(&name.as_str()), "no firmware `{name}`; there are: {}", known.join(", "));
    }
    let chosen = |firmware: &&Firmware| {
        args.names.is_empty() || args.names.iter().any(|name| name == firmware.package)
    };
    let chosen: Vec<&Firmware> = FIRMWARES.iter().filter(chosen).collect();
    find_qemu()?;
    let mut figures = Vec::new();
    for firmware in chosen {
        let elf = build(firmware)?;
        println!("{} on {}:", firmware.package, firmware.machine);
        let peaks = emulate(firmware, &elf)?;
        let sizes = Sizes::read(&elf)?;
        if let Some(ram) = firmware.ram {
            ensure!(
                sizes.ram() <= ram,
                "{} takes {} bytes of RAM, over {ram}",
                firmware.package,
                sizes.ram()
            );
        }
        figures.push((firmware, sizes, peaks));
    }
    println!("{}", table(&figures));
    println!("firmware: {}", summary(&figures));
    Ok(())
}

/// Builds one, and says where it is.
fn build(firmware: &Firmware) -> Result<PathBuf> {
    add_target(firmware.target)?;
    let built = target_dir().join("firmware");
    execute(
        cargo(&crate::root().join("firmware"))
            .args(["build", "--quiet", "--release", "--locked"])
            .args(["--target", firmware.target, "--package", firmware.package])
            .arg("--target-dir")
            .arg(&built),
    )?;
    Ok(built.join(firmware.target).join("release").join(firmware.package))
}

/// Installs the emulator unless it is there; whoever may not is told how.
fn find_qemu() -> Result<()> {
    if Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    let install = ["install", "--yes", "--no-install-recommends", QEMU];
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let apt = Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_ok();
    ensure!(root && apt, "{QEMU} is not there; on Debian: sudo apt-get {}", install.join(" "));
    // A new machine may have no list of packages yet.
    execute(Command::new("apt-get").arg("update"))?;
    execute(Command::new("apt-get").args(install))
}

/// The most that was in use of something, as firmware prints it.
#[derive(Debug, PartialEq, Eq)]
struct Peak {
    what: String,
    bytes: usize,
    of: usize,
}

impl Peak {
    /// Reads `peak stack: 1234 of 4096 bytes`.
    fn parse(line: &str) -> Option<Self> {
        let (what, figures) = line.strip_prefix("peak ")?.split_once(": ")?;
        let (bytes, of) = figures.strip_suffix(" bytes")?.split_once(" of ")?;
        Some(Self { what: what.to_owned(), bytes: bytes.parse().ok()?, of: of.parse().ok()? })
    }
}

/// A process that does not outlive this one's interest in it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already, or it is to end now: nobody is left to be told of an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one to its end, shows what it prints, and checks that.
fn emulate(firmware: &Firmware, elf: &Path) -> Result<Vec<Peak>> {
    let Firmware { package, patience, .. } = firmware;
    let mut command = Command::new(QEMU);
    command
        .args(["-machine", firmware.machine, "-nographic", "-monitor", "none", "-serial", "none"])
        .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(elf)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut emulator = Emulator(command.spawn().with_context(|| format!("running {QEMU}"))?);
    let output = emulator.0.stdout.take().context("stdout is piped")?;
    let reader = thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.inspect(|line| println!("  {line}")).collect::<Vec<_>>()
    });

    let started = Instant::now();
    let status = loop {
        if let Some(status) = emulator.0.try_wait()? {
            break status;
        }
        if started.elapsed() > *patience {
            bail!("{package} still ran after {} s", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    };
    let Ok(lines) = reader.join() else { bail!("the thread that reads what {package} prints panicked") };
    println!("  ({status} after {:.1} s)\n", started.elapsed().as_secs_f32());
    ensure!(status.success(), "{package} failed: {status}");
    for expected in firmware.prints {
        ensure!(lines.iter().any(|line| line.contains(expected)), "{package} did not print `{expected}`");
    }
    Ok(lines.iter().filter_map(|line| Peak::parse(line)).collect())
}

/// What a firmware takes of a chip, in bytes.
struct Sizes {
    /// Vectors, code, constants, and the initial values of statics.
    flash: usize,
    /// Statics, of which heap and regions are a part.
    statics: usize,
    /// What the linker script gives the stack.
    stack: usize,
}

impl Sizes {
    fn read(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("reading {}", elf.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", elf.display()))?;
        let (mut flash, mut statics) = (0, 0);
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let has = |flag: u32| sh_flags & u64::from(flag) != 0;
            if !has(SHF_ALLOC) {
                continue;
            }
            let size = usize::try_from(section.size())?;
            if has(SHF_WRITE) {
                statics += size;
            }
            if section.kind() != SectionKind::UninitializedData {
                flash += size;
            }
        }
        let symbol = |name| {
            let symbol = file.symbol_by_name(name).with_context(|| format!("no symbol {name}"))?;
            anyhow::Ok(usize::try_from(symbol.address())?)
        };
        Ok(Self { flash, statics, stack: symbol("_stack_start")? - symbol("_stack_end")? })
    }

    fn ram(&self) -> usize {
        self.statics + self.stack
    }
}

type Figures<'f> = (&'f Firmware, Sizes, Vec<Peak>);

/// A row for each firmware.
fn table(figures: &[Figures<'_>]) -> String {
    let mut table =
        String::from("| firmware | flash | RAM: statics and stack | peaks |\n|---|---|---|---|\n");
    for (firmware, sizes, peaks) in figures {
        let peaks: Vec<_> =
            peaks.iter().map(|peak| format!("{} {}", peak.what, thousands(peak.bytes))).collect();
        let _ = writeln!(
            table,
            "| `{}` | {} | {} + {} | {} |",
            firmware.package,
            thousands(sizes.flash),
            thousands(sizes.statics),
            thousands(sizes.stack),
            peaks.join(", "),
        );
    }
    table
}

fn summary(figures: &[Figures<'_>]) -> String {
    let all = figures.iter().map(|(firmware, sizes, peaks)| {
        let peaks: Vec<_> = peaks.iter().map(|peak| format!("{} {}", peak.what, peak.bytes)).collect();
        let package = firmware.package;
        format!("{package} flash {} ram {} peak {}", sizes.flash, sizes.ram(), peaks.join(" "))
    });
    all.collect::<Vec<_>>().join("; ")
}

/// A number that can be read: `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_read_as_firmware_prints_it_and_nothing_else_is() {
        let peak = Peak { what: "stack".to_owned(), bytes: 12, of: 4096 };
        assert_eq!(Peak::parse("peak stack: 12 of 4096 bytes"), Some(peak));
        assert_eq!(Peak::parse("peak stack: 12 bytes"), None);
        assert_eq!(Peak::parse("the peak stack: 12 of 4096 bytes"), None);
    }

    #[test]
    fn digits_are_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
