//! Separable resampling of interleaved 8-bit samples: along the rows, then along the
//! columns. Colours are weighted by their alpha, so that what a transparent pixel hides
//! does not bleed into its neighbours.

use crate::zeros;

/// Interleaved 8-bit samples, row by row. Two and four channels end in alpha.
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples in a pixel, 1 to 4.
    pub channels: usize,
    /// `width * height * channels` samples.
    pub samples: Vec<u8>,
}

/// How a new pixel is made of old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The mean over the area of the new pixel.
    Box,
    /// A triangle twice as wide as the wider of the old and the new pixel.
    Bilinear,
}

/// Which old samples make a new one along one axis: the first of them, and the weight
/// of each, adding up to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

fn taps(old: usize, new: usize, filter: Filter) -> Vec<Taps> {
    let scale = old as f32 / new as f32;
    let width = match filter {
        Filter::Box => scale / 2.0,
        Filter::Bilinear => scale.max(1.0),
    };
    (0..new)
        .map(|at| {
            let centre = (at as f32 + 0.5) * scale;
            // Float to integer saturates: never below 0.
            let first = ((centre - width).floor() as usize).min(old - 1);
            let end = ((centre + width).ceil() as usize).clamp(first + 1, old);
            let weight = |sample: usize| {
                let from = sample as f32;
                match filter {
                    Filter::Box => (from + 1.0).min(centre + width) - from.max(centre - width),
                    Filter::Bilinear => 1.0 - ((from + 0.5 - centre) / width).abs(),
                }
                .max(0.0)
            };
            let mut weights: Vec<f32> = (first..end).map(weight).collect();
            let sum: f32 = weights.iter().sum();
            if sum > 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            } else {
                // Rounding left the last pixel no area: it repeats the nearest old one.
                let count = weights.len() as f32;
                weights.fill(1.0 / count);
            }
            Taps { first, weights }
        })
        .collect()
}

/// The image at another size, both sides at least 1.
///
/// # Errors
///
/// A side of 0, or not enough memory: about four bytes for every sample of an image as
/// wide as the new one and as high as the old one.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image, String> {
    let channels = image.channels;
    if image.width == 0 || image.height == 0 || width == 0 || height == 0 || channels == 0 {
        return Err("an image has at least one pixel".to_owned());
    }
    let has_alpha = channels.is_multiple_of(2);
    let (across, down) = (taps(image.width, width, filter), taps(image.height, height, filter));

    let row = width.checked_mul(channels).ok_or("the image is too large")?;
    let mut wide: Vec<f32> = zeros(row.checked_mul(image.height).ok_or("the image is too large")?)?;
    let rows = image.samples.chunks_exact(image.width * channels);
    for (from, to) in rows.zip(wide.chunks_exact_mut(row)) {
        for (taps, pixel) in across.iter().zip(to.chunks_exact_mut(channels)) {
            let sources = from.chunks_exact(channels).skip(taps.first);
            for (source, weight) in sources.zip(&taps.weights) {
                let alpha = match source.last() {
                    Some(&alpha) if has_alpha => f32::from(alpha) / 255.0,
                    _ => 1.0,
                };
                for (channel, (sum, &sample)) in pixel.iter_mut().zip(source).enumerate() {
                    let is_alpha = has_alpha && channel + 1 == channels;
                    let opacity = if is_alpha { 1.0 } else { alpha };
                    *sum += weight * opacity * f32::from(sample);
                }
            }
        }
    }

    let mut samples: Vec<u8> = zeros(row.checked_mul(height).ok_or("the image is too large")?)?;
    let mut sums: Vec<f32> = zeros(row)?;
    for (taps, to) in down.iter().zip(samples.chunks_exact_mut(row)) {
        sums.fill(0.0);
        let sources = wide.chunks_exact(row).skip(taps.first);
        for (source, weight) in sources.zip(&taps.weights) {
            for (sum, sample) in sums.iter_mut().zip(source) {
                *sum += weight * sample;
            }
        }
        for (sums, pixel) in sums.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
            let alpha = match sums.last() {
                Some(&alpha) if has_alpha => alpha / 255.0,
                _ => 1.0,
            };
            for (channel, (sample, sum)) in pixel.iter_mut().zip(sums).enumerate() {
                let is_alpha = has_alpha && channel + 1 == channels;
                let value = if is_alpha || alpha <= 0.0 { *sum } else { sum / alpha };
                // Float to integer saturates to 0..=255.
                *sample = value.round() as u8;
            }
        }
    }
    Ok(Image { width, height, channels, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, samples: &[u8]) -> Image {
        Image { width, height: samples.len() / width, channels: 1, samples: samples.to_vec() }
    }

    fn resized(image: &Image, width: usize, height: usize, filter: Filter) -> Vec<u8> {
        resize(image, width, height, filter).unwrap().samples
    }

    #[test]
    fn box_takes_the_mean_of_the_area() {
        let image = gray(4, &[0, 100, 10, 20, 200, 100, 30, 40]);
        assert_eq!(resized(&image, 2, 1, Filter::Box), [100, 25]);
        // 3 to 2: each new pixel covers one and a half old ones.
        assert_eq!(resized(&gray(3, &[0, 90, 240]), 2, 1, Filter::Box), [30, 190]);
    }

    #[test]
    fn box_repeats_pixels_when_enlarging_by_a_whole_number() {
        assert_eq!(resized(&gray(2, &[7, 9]), 4, 2, Filter::Box), [7, 7, 9, 9, 7, 7, 9, 9]);
    }

    #[test]
    fn bilinear_interpolates_between_centres() {
        assert_eq!(resized(&gray(2, &[0, 100]), 4, 1, Filter::Bilinear), [0, 25, 75, 100]);
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let samples: Vec<u8> = (0..63).map(|at| (at * 41 % 256) as u8).collect();
        let image = gray(9, &samples);
        assert_eq!(resized(&image, 9, 7, Filter::Box), samples);
        assert_eq!(resized(&image, 9, 7, Filter::Bilinear), samples);
    }

    #[test]
    fn one_colour_stays_that_colour_at_any_size() {
        for filter in [Filter::Box, Filter::Bilinear] {
            for old in 1..20 {
                for new in 1..20 {
                    let image = gray(old, &vec![173; old * 2]);
                    let result = resized(&image, new, 3, filter);
                    assert!(result.iter().all(|&s| s == 173), "{filter:?} {old} to {new}");
                }
            }
        }
    }

    #[test]
    fn hidden_colour_does_not_bleed() {
        let image = Image { width: 2, height: 1, channels: 2, samples: vec![50, 255, 200, 0] };
        assert_eq!(resized(&image, 1, 1, Filter::Box), [50, 128]);
    }

    #[test]
    fn no_pixels_is_an_error() {
        assert!(resize(&gray(1, &[1]), 0, 1, Filter::Box).is_err());
        assert!(resize(&gray(1, &[1]), 1, 0, Filter::Box).is_err());
    }
}
