//! Line charts as SVG, on logarithmic axes, readable on light and dark pages. Draws numbers, computes none.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
const COLOURS: [&str; 5] = ["#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#868e96"];

/// One line of a chart.
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Its points, by rising x; all positive.
    pub points: Vec<(f64, f64)>,
}

/// A chart of `series` with both axes logarithmic.
pub fn chart(title: &str, x_title: &str, y_title: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|series| series.points.iter());
    let (x_low, x_high) = decades(all().map(|(x, _)| *x));
    let (y_low, y_high) = decades(all().map(|(_, y)| *y));
    let x_at = |x: f64| LEFT + (x.log10() - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - (y.log10() - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"600\">{}</text>\n",
        escaped(title)
    );
    for exponent in x_low as i32..=x_high as i32 {
        let (x, bottom) = (x_at(10f64.powi(exponent)), HEIGHT - BOTTOM);
        line(&mut svg, (x, TOP), (x, bottom));
        text(&mut svg, (x, bottom + 18.0), "middle", &number(10f64.powi(exponent)));
    }
    for exponent in y_low as i32..=y_high as i32 {
        let y = y_at(10f64.powi(exponent));
        line(&mut svg, (LEFT, y), (WIDTH - RIGHT, y));
        text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &number(10f64.powi(exponent)));
    }
    text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 16.0), "middle", x_title);
    text(&mut svg, (LEFT, TOP - 6.0), "start", y_title);
    for (place, series) in series.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let points: Vec<_> =
            series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y))).collect();
        let points = points.join(" ");
        let _ = writeln!(svg, r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>"#);
        let y = TOP + 16.0 + 20.0 * place as f64;
        let x = WIDTH - RIGHT + 12.0;
        let _ = writeln!(svg, r#"<rect x="{x}" y="{:.1}" width="12" height="4" fill="{colour}"/>"#, y - 6.0);
        text(&mut svg, (x + 18.0, y), "start", &series.name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        r##"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="#dee2e6"/>"##,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{words}</text>"#, at.0, at.1);
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

/// The whole powers of ten around the values; at least one apart.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| *value > 0.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let low = low.log10().floor();
    (low, high.log10().ceil().max(low + 1.0))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_inside() {
        let points = vec![(1.0, 300.0), (1_000.0, 450.0), (100_000.0, 12_000.0)];
        let svg = chart("a < b", "lots", "ns", &[Series { name: "engine".into(), points }]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b"));
        let drawn = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        for point in drawn.split(' ') {
            let (x, y) = point.split_once(',').expect("a point");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
        }
    }

    #[test]
    fn a_chart_of_nothing_is_still_a_chart() {
        assert!(chart("", "", "", &[]).ends_with("</svg>\n"));
    }
}
