//! gzip and gunzip, from stdin to stdout, in constant memory.
//!
//! ```text
//! compress [-1 ... -9]     compress (level 6 unless told)
//! compress -d              decompress: every member of a multi-member file
//! ```

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use flate2::Compression;
use flate2::bufread::{GzEncoder, MultiGzDecoder};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Compress(u32),
    Decompress,
}

impl Task {
    fn parse(args: &[OsString]) -> Result<Self, String> {
        match args {
            [] => Ok(Self::Compress(6)),
            [arg] => match arg.to_str().unwrap_or_default().as_bytes() {
                b"-d" => Ok(Self::Decompress),
                [b'-', digit @ b'1'..=b'9'] => Ok(Self::Compress(u32::from(digit - b'0'))),
                _ => Err(format!("unknown argument `{}`", arg.display())),
            },
            _ => Err("usage: compress [-d | -1 ... -9]".to_owned()),
        }
    }

    fn run(&self, input: impl io::BufRead, output: &mut impl Write) -> Result<(), String> {
        match self {
            Self::Compress(level) => copy(GzEncoder::new(input, Compression::new(*level)), output),
            Self::Decompress => copy(MultiGzDecoder::new(input), output),
        }
    }
}

/// Copies everything, and says on which side it failed.
fn copy(mut from: impl Read, to: &mut impl Write) -> Result<(), String> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush().map_err(|e| format!("writing stdout: {e}")),
            Ok(n) => {
                let read = buffer.get(..n).unwrap_or_default();
                to.write_all(read).map_err(|e| format!("writing stdout: {e}"))?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("reading stdin: {e}")),
        }
    }
}

fn run() -> Result<(), String> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let input = io::BufReader::with_capacity(32 * 1024, io::stdin().lock());
    Task::parse(&args)?.run(input, &mut io::stdout().lock())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "compress: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(task: Task, input: &[u8]) -> Result<Vec<u8>, String> {
        let mut output = Vec::new();
        task.run(input, &mut output)?;
        Ok(output)
    }

    #[test]
    fn what_goes_in_comes_out_at_every_level() {
        let text = "how much wood would a woodchuck chuck ".repeat(5_000).into_bytes();
        for level in 1..=9 {
            let packed = run(Task::Compress(level), &text).unwrap();
            assert!(packed.len() < text.len() / 50, "level {level}: {} bytes", packed.len());
            assert_eq!(run(Task::Decompress, &packed).unwrap(), text, "level {level}");
        }
    }

    #[test]
    fn members_are_concatenated() {
        let mut file = run(Task::Compress(6), b"one, ").unwrap();
        file.extend(run(Task::Compress(6), b"two").unwrap());
        assert_eq!(run(Task::Decompress, &file).unwrap(), b"one, two");
    }

    #[test]
    fn damaged_input_is_an_error() {
        let packed = run(Task::Compress(6), b"some text, some more text").unwrap();
        for cut in 1..packed.len() {
            assert!(run(Task::Decompress, &packed[..cut]).is_err(), "cut at {cut}");
        }
        let mut flipped = packed.clone();
        let checksum = flipped.len() - 8;
        flipped[checksum] ^= 1;
        assert!(run(Task::Decompress, &flipped).is_err());
        assert!(run(Task::Decompress, b"plain text, no gzip").is_err());
    }

    #[test]
    fn arguments() {
        let parse = |args: &[&str]| Task::parse(&args.iter().map(Into::into).collect::<Vec<_>>());
        assert_eq!(parse(&[]), Ok(Task::Compress(6)));
        assert_eq!(parse(&["-9"]), Ok(Task::Compress(9)));
        assert_eq!(parse(&["-d"]), Ok(Task::Decompress));
        assert!(parse(&["-0"]).is_err());
        assert!(parse(&["-d", "-1"]).is_err());
    }
}
