//! The figure: what was granted over time, as SVG. Colours that can be read on white and on black, on no
//! background of their own.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (900, 420);

/// Of text and axes.
const GREY: RGBColor = RGBColor(118, 118, 118);

/// One line: its name, its colour, its width, and MiB at each step.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub colour: RGBColor,
    /// Its width in pixels.
    pub width: u32,
    /// MiB at each step.
    pub values: Vec<f64>,
}

/// Draws the lines, the first one lowest, and the pool of so many MiB that bounds them.
pub fn draw(lines: &[Line], pool: f64) -> Result<String> {
    let mut svg = String::new();
    // Errors of a backend that writes to a string name a lifetime that ends here.
    draw_on(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), lines, pool)
        .map_err(|error| anyhow!("drawing: {error}"))?;
    svg.push('\n');
    Ok(svg)
}

fn draw_on<DB: DrawingBackend>(
    area: DrawingArea<DB, plotters::coord::Shift>,
    lines: &[Line],
    pool: f64,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let steps = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let text = ("sans-serif", 14).into_font().color(&GREY);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..steps as f64, 0.0..pool * 1.08)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.3))
        .axis_style(GREY)
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .x_desc("step")
        .y_desc("MiB granted")
        .y_labels(6)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|mib| format!("{mib:.0}"))
        .draw()?;
    chart.draw_series(DashedLineSeries::new(
        [(0.0, pool), (steps as f64, pool)],
        6,
        4,
        GREY.stroke_width(1),
    ))?;
    let above = text.pos(Pos::new(HPos::Right, VPos::Bottom));
    chart.draw_series([Text::new(format!("pool, {pool} MiB"), (steps as f64, pool * 1.01), above)])?;
    for line in lines {
        let style = line.colour.stroke_width(line.width);
        let points = line.values.iter().enumerate().map(|(step, &mib)| (step as f64, mib));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 14).into_font().color(&GREY))
        .draw()?;
    area.present()
}
