//! Curves and histograms as inline SVG.

use std::ops::Range;

use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::format::escape;

const SIZE: (u32, u32) = (640, 420);
const FONT: &str = "sans-serif";
/// Told apart by people who do not see red and green (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// A named line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Line {
    pub(super) fn new(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        Self { name: name.to_owned(), points: points.into_iter().filter(finite).collect() }
    }

    /// The same values as a step function: each holds until the next.
    pub(super) fn steps(name: &str, points: &[(f64, f64)]) -> Self {
        let ends = points.iter().skip(1).map(|p| p.0);
        let held = points.iter().zip(ends).flat_map(|(p, end)| [*p, (end, p.1)]);
        Self::new(name, held.chain(points.last().copied()))
    }
}

/// What the axes show.
pub(super) struct Axes {
    pub(super) title: String,
    pub(super) x: (&'static str, Range<f64>),
    pub(super) y: (&'static str, Range<f64>),
}

/// What the ticks of both axes say.
type Labels = [fn(&f64) -> String; 2];

/// Lines over linear axes.
pub(super) fn linear(axes: &Axes, lines: &[Line]) -> String {
    drawn(axes, lines, &|svg| {
        let (x, y) = (RangedCoordf64::from(axes.x.1.clone()), RangedCoordf64::from(axes.y.1.clone()));
        figure(svg, axes, (x, y), lines, false, [plain; 2])
    })
}

/// Areas over linear axes.
pub(super) fn areas(axes: &Axes, lines: &[Line]) -> String {
    drawn(axes, lines, &|svg| {
        let (x, y) = (RangedCoordf64::from(axes.x.1.clone()), RangedCoordf64::from(axes.y.1.clone()));
        figure(svg, axes, (x, y), lines, true, [plain; 2])
    })
}

/// Lines over logarithmic axes, whose ranges begin above 0; points below them are left out.
pub(super) fn logarithmic(axes: &Axes, lines: &[Line]) -> String {
    let lines = within(axes, lines);
    drawn(axes, &lines, &|svg| {
        let axis = |range: &Range<f64>| LogCoord::from(range.clone().log_scale());
        figure(svg, axes, (axis(&axes.x.1), axis(&axes.y.1)), &lines, false, [power; 2])
    })
}

/// Lines over a logarithmic axis across and a linear one up.
pub(super) fn half_logarithmic(axes: &Axes, lines: &[Line]) -> String {
    let lines = within(axes, lines);
    drawn(axes, &lines, &|svg| {
        let x = LogCoord::from(axes.x.1.clone().log_scale());
        figure(svg, axes, (x, RangedCoordf64::from(axes.y.1.clone())), &lines, false, [power, plain])
    })
}

/// Without the points below the axes' beginnings: a logarithm has no 0.
fn within(axes: &Axes, lines: &[Line]) -> Vec<Line> {
    let inside = |(x, y): &(f64, f64)| axes.x.1.start <= *x && axes.y.1.start <= *y;
    lines.iter().map(|line| Line::new(&line.name, line.points.iter().copied().filter(inside))).collect()
}

fn power(value: &f64) -> String {
    format!("{value:.0e}")
}

/// At most three decimals.
fn plain(value: &f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The figure; nothing where there is nothing to draw, and a line of text where it cannot be drawn.
fn drawn(axes: &Axes, lines: &[Line], draw: &dyn Fn(&mut String) -> Result<(), String>) -> String {
    if lines.iter().all(|line| line.points.is_empty()) {
        return String::new();
    }
    let mut svg = String::new();
    match draw(&mut svg) {
        Ok(()) => format!("<figure>{svg}</figure>\n"),
        Err(problem) => format!("<p>{} could not be drawn: {}</p>\n", escape(&axes.title), escape(&problem)),
    }
}

fn figure<X, Y>(
    svg: &mut String,
    axes: &Axes,
    (x, y): (X, Y),
    lines: &[Line],
    filled: bool,
    labels: Labels,
) -> Result<(), String>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let mut builder = ChartBuilder::on(&root);
    builder.margin(12).caption(&axes.title, (FONT, 17)).x_label_area_size(44).y_label_area_size(60);
    let mut chart = builder.build_cartesian_2d(x, y).map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.x.0).y_desc(axes.y.0).light_line_style(TRANSPARENT).x_labels(9).y_labels(9);
    let [across, up] = labels;
    mesh.x_label_formatter(&across).y_label_formatter(&up).draw().map_err(text)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = line.points.iter().copied();
        let drawn = if filled {
            let area = AreaSeries::new(points, axes.y.1.start, colour.mix(0.25)).border_style(colour);
            chart.draw_series(area).map_err(text)?
        } else {
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(text)?
        };
        drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    let mut legend = chart.configure_series_labels();
    legend.background_style(WHITE.mix(0.85)).border_style(RGBColor(200, 200, 200)).label_font((FONT, 13));
    legend.draw().map_err(text)?;
    root.present().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
