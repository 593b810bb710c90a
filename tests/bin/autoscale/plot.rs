//! The run as a picture: lag, workers and latency over time, one above the other.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Sample;

const SIZE: (u32, u32) = (900, 820);
const FONT: &str = "sans-serif";
/// Told apart by people who do not see red and green (Okabe and Ito).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// A named line.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn new(name: &'static str, samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Self {
        let points = samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?))).collect();
        Self { name, points }
    }

    /// Each value holds until the next.
    fn steps(self) -> Self {
        let ends = self.points.iter().skip(1).map(|point| point.0);
        let held = self.points.iter().zip(ends).flat_map(|(point, end)| [*point, (end, point.1)]);
        Self { name: self.name, points: held.chain(self.points.last().copied()).collect() }
    }
}

/// The picture.
pub(super) fn svg(title: &str, samples: &[Sample]) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, samples).map_err(|problem| anyhow::anyhow!("the timeline cannot be drawn: {problem}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, samples: &[Sample]) -> Result<(), String> {
    let end = samples.last().map_or(1.0, |sample| sample.seconds).max(1.0);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let panels = root.split_evenly((3, 1));
    let lines = [
        (title, "messages", vec![Line::new("lag: waiting and unacked", samples, |sample| Some(sample.lag as f64))]),
        (
            "Workers",
            "processes",
            vec![
                Line::new("wanted by the scaler", samples, |sample| Some(sample.workers as f64)).steps(),
                Line::new("draining", samples, |sample| Some(sample.draining as f64)).steps(),
            ],
        ),
        (
            "From the publish to the embedding",
            "seconds",
            vec![
                Line::new("median", samples, |sample| sample.p50),
                Line::new("99th percentile", samples, |sample| sample.p99),
            ],
        ),
    ];
    for (panel, (caption, unit, lines)) in panels.iter().zip(&lines) {
        chart(panel, caption, unit, 0.0..end, lines)?;
    }
    root.present().map_err(text)
}

fn chart(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    unit: &str,
    across: Range<f64>,
    lines: &[Line],
) -> Result<(), String> {
    let top = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let mut builder = ChartBuilder::on(panel);
    builder.margin(12).caption(caption, (FONT, 17)).x_label_area_size(36).y_label_area_size(64);
    let mut chart = builder.build_cartesian_2d(across, 0.0..(top * 1.1).max(1.0)).map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("seconds").y_desc(unit).light_line_style(TRANSPARENT).x_labels(9).y_labels(6);
    mesh.draw().map_err(text)?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)));
        let drawn = drawn.map_err(text)?.label(line.name);
        drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    let mut legend = chart.configure_series_labels();
    legend.background_style(WHITE.mix(0.85)).border_style(RGBColor(200, 200, 200)).label_font((FONT, 13));
    legend.draw().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
