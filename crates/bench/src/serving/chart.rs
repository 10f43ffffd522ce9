//! Times as a picture.

use std::error::Error;

use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};

use super::Summary;

/// Width and height of the picture.
const SIZE: (u32, u32) = (960, 640);
/// Colours that those who see no red or green can tell apart: Okabe and Ito.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
];
/// What the times of a summary are called.
const NAMES: [&str; 4] = [
    "to the first token (TTFT)",
    "each token after it (TPOT)",
    "between tokens (ITL)",
    "to the last (E2EL)",
];
/// Points of a curve.
const POINTS: usize = 1000;

/// Draws for each time which share of it was at most so long, on a logarithmic scale, as SVG.
///
/// # Errors
///
/// In words, if it cannot be drawn.
pub fn chart(summary: &Summary, title: &str) -> Result<String, String> {
    let mut svg = String::new();
    let drawn = draw(&mut svg, summary, title);
    drawn.map_err(|error| format!("cannot draw the chart: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, summary: &Summary, title: &str) -> Result<(), Box<dyn Error>> {
    let curves = || {
        let curves = summary.times.iter().zip(NAMES).zip(COLOURS);
        curves.filter(|(((_, times), _), _)| !times.0.is_empty())
    };
    let least = curves().map(|(((_, times), _), _)| times.min());
    let least = least.fold(f64::INFINITY, f64::min).clamp(1e-3, 1e9);
    let most = curves().map(|(((_, times), _), _)| times.max());
    // Some room, so that the last curve does not end on the frame.
    let most = 1.1 * most.fold(10.0 * least, f64::max);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .max_light_lines(2)
        .x_desc("milliseconds")
        .y_desc("% at most so long")
        .x_label_formatter(&|millis| format!("{millis}"))
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (((_, times), name), colour) in curves() {
        let points = (0..=POINTS).map(|point| {
            let percent = 100.0 * point as f64 / POINTS as f64;
            (times.percentile(percent).max(least), percent)
        });
        let label = format!(
            "{name}: median {:.1}, p99 {:.1} ms",
            times.median(),
            times.percentile(99.0)
        );
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;

    #[test]
    fn every_time_that_was_measured_has_a_curve() {
        let record = |slow: f64| Record {
            output: 3,
            first: 0.1 * slow,
            gaps: vec![0.01, 0.02 * slow],
            total: 0.2 * slow,
            ..Record::default()
        };
        let all = Summary::of(&[record(1.0), record(3.0)]);
        let svg = chart(&all, "two requests").unwrap();
        for name in NAMES.iter().chain(&["two requests", "milliseconds"]) {
            assert!(svg.contains(name), "{name}");
        }
        assert_eq!(
            svg.matches("<polyline").count(),
            NAMES.len() + legends(&svg)
        );
        // Where nothing was answered there is a picture all the same.
        assert!(chart(&Summary::of(&[]), "none").unwrap().contains("</svg>"));
    }

    /// Lines that are no curves: a tick, an axis or a legend has two points.
    fn legends(svg: &str) -> usize {
        let lines = svg.split("<polyline").skip(1);
        lines.filter(|line| points(line) == 2).count()
    }

    fn points(line: &str) -> usize {
        let list = line.split("points=\"").nth(1).unwrap();
        list.split('"').next().unwrap().split_whitespace().count()
    }
}
