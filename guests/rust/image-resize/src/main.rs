//! Resizes a PNG: one on stdin, one on stdout.
//!
//! ```text
//! image-resize WIDTH HEIGHT [box | bilinear]
//! ```
//!
//! Any PNG is read (palettes are expanded, 16 bits a channel become 8); the result has
//! 8 bits a channel and as many channels as the source. `box`, the default, averages
//! the area under each new pixel; `bilinear` is smoother when enlarging.

mod resample;

use std::ffi::OsString;
use std::io::{self, Cursor, Read, Write};
use std::process::ExitCode;

use png::{BitDepth, ColorType, Transformations};
use resample::{Filter, Image};

/// The longest side asked for, in pixels.
const LONGEST: u32 = 8192;
/// What the decoder may allocate, in bytes, whatever the header of the source says.
const DECODER_BYTES: usize = 64 << 20;

struct Task {
    width: u32,
    height: u32,
    filter: Filter,
}

impl Task {
    fn parse(args: &[OsString]) -> Result<Self, String> {
        let side = |arg: &OsString| {
            let number = arg.to_str().and_then(|arg| arg.parse().ok());
            number
                .filter(|side| (1..=LONGEST).contains(side))
                .ok_or_else(|| format!("`{}` is not a size from 1 to {LONGEST}", arg.display()))
        };
        let (width, height, filter) = match args {
            [width, height] => (width, height, Filter::Box),
            [width, height, filter] if filter == "box" => (width, height, Filter::Box),
            [width, height, filter] if filter == "bilinear" => (width, height, Filter::Bilinear),
            _ => return Err("usage: image-resize WIDTH HEIGHT [box | bilinear]".to_owned()),
        };
        Ok(Self { width: side(width)?, height: side(height)?, filter })
    }
}

/// A buffer of zeros, or a message: the sizes here come from outside.
fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, String> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| format!("no memory for {len} samples"))?;
    buffer.resize(len, T::default());
    Ok(buffer)
}

fn decode(bytes: &[u8]) -> Result<(Image, ColorType), String> {
    let bad = |e: png::DecodingError| format!("not a PNG that can be read: {e}");
    let limits = png::Limits { bytes: DECODER_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(bad)?;
    let size = reader.output_buffer_size().filter(|&size| size <= DECODER_BYTES);
    let mut samples = zeros(size.ok_or("the image is too large")?)?;
    let frame = reader.next_frame(&mut samples).map_err(bad)?;
    samples.truncate(frame.buffer_size());
    let channels = frame.color_type.samples();
    let image = Image { width: frame.width as usize, height: frame.height as usize, channels, samples };
    Ok((image, frame.color_type))
}

fn encode(image: &Image, color: ColorType, out: impl Write) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(out, image.width as u32, image.height as u32);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.samples)?;
    writer.finish()
}

fn resize(task: &Task, input: &[u8]) -> Result<Vec<u8>, String> {
    let (image, color) = decode(input)?;
    let resized = resample::resize(&image, task.width as usize, task.height as usize, task.filter)?;
    drop(image);
    let mut output = Vec::new();
    encode(&resized, color, &mut output).map_err(|e| format!("writing PNG: {e}"))?;
    Ok(output)
}

fn run() -> Result<(), String> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let task = Task::parse(&args)?;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).map_err(|e| format!("reading stdin: {e}"))?;
    let output = resize(&task, &input)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&output).and_then(|()| stdout.flush()).map_err(|e| format!("writing stdout: {e}"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "image-resize: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(width: u32, height: u32) -> Task {
        Task { width, height, filter: Filter::Box }
    }

    #[test]
    fn every_color_type_survives_the_round_trip() {
        for color in [ColorType::Grayscale, ColorType::GrayscaleAlpha, ColorType::Rgb, ColorType::Rgba] {
            let channels = color.samples();
            // Opaque: what lies under a transparent pixel need not survive.
            let samples: Vec<u8> = (0..5 * 3 * channels)
                .map(|at| {
                    let alpha = matches!(channels, 2 | 4) && at % channels == channels - 1;
                    if alpha { 255 } else { (at * 37 % 251) as u8 }
                })
                .collect();
            let image = Image { width: 5, height: 3, channels, samples: samples.clone() };
            let mut file = Vec::new();
            encode(&image, color, &mut file).unwrap();
            let (back, back_color) = decode(&resize(&task(5, 3), &file).unwrap()).unwrap();
            assert_eq!(back_color, color);
            assert_eq!(back.samples, samples, "{color:?}");
        }
    }

    #[test]
    fn palettes_and_sixteen_bits_are_converted() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette(vec![1, 2, 3, 250, 251, 252]);
        encoder.write_header().unwrap().write_image_data(&[1, 0]).unwrap();
        let (image, color) = decode(&file).unwrap();
        assert_eq!((color, image.samples), (ColorType::Rgb, vec![250, 251, 252, 1, 2, 3]));

        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::Sixteen);
        encoder.write_header().unwrap().write_image_data(&[7, 99, 200, 0]).unwrap();
        assert_eq!(decode(&file).unwrap().0.samples, [7, 200]);
    }

    #[test]
    fn damaged_input_is_an_error() {
        let image = Image { width: 4, height: 4, channels: 1, samples: vec![9; 16] };
        let mut file = Vec::new();
        encode(&image, ColorType::Grayscale, &mut file).unwrap();
        for cut in 0..file.len() - 16 {
            assert!(decode(&file[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode(b"GIF89a").is_err());
    }

    #[test]
    fn arguments() {
        let parse = |args: &[&str]| Task::parse(&args.iter().map(Into::into).collect::<Vec<_>>());
        assert!(parse(&["3", "4", "bilinear"]).is_ok_and(|task| task.filter == Filter::Bilinear));
        for bad in [&["3"][..], &["0", "1"], &["1", "8193"], &["1", "-1"], &["1", "1", "cubic"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
