//! The common time axis: where a time stands, and how a stretch of it becomes cells.

use super::Style;
use super::paint::{self, Fill};
use crate::quantity::duration;

/// A stretch of time that fills cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) fill: Fill,
}

/// Time from left to right, nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    from: u64,
    nanos: f64,
    cells: usize,
}

impl Axis {
    pub(super) fn new(from: u64, to: u64, cells: usize) -> Self {
        Self { from, nanos: (to.saturating_sub(from) as f64).max(1.0), cells }
    }

    /// Seconds since the left end.
    pub(super) fn offset(&self, unix_nanos: u64) -> f64 {
        (unix_nanos as f64 - self.from as f64) / 1e9
    }

    /// A bar: each cell shows what takes most of it, and the first cell of a bar always shows it.
    pub(super) fn bar(&self, stretches: &[Stretch], style: Style) -> String {
        let position = |nanos: u64| (nanos.saturating_sub(self.from) as f64) / self.nanos * self.cells as f64;
        let first = stretches.iter().map(|stretch| position(stretch.from)).fold(f64::INFINITY, f64::min);
        let first_cell = (first as usize).min(self.cells - 1);
        let fill = |cell: usize| {
            let overlap = |stretch: &Stretch| {
                let from = position(stretch.from).max(cell as f64);
                position(stretch.to).min((cell + 1) as f64) - from
            };
            let most = stretches.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)))?;
            let covered: f64 = stretches.iter().map(|stretch| overlap(stretch).max(0.0)).sum();
            (covered >= 0.5 || cell == first_cell).then_some(most.fill)
        };
        let cells: Vec<Option<Fill>> = (0..self.cells).map(fill).collect();
        let runs = cells.chunk_by(|a, b| a == b);
        let text: String = runs.map(|run| painted(run, style)).collect();
        text.trim_end().to_owned()
    }

    /// The scale above the bars: round times with a tick at their cell.
    pub(super) fn scale(&self) -> String {
        let step = self.step();
        let mut line = String::new();
        let mut time = 0.0;
        while time <= self.nanos {
            let cell = (time / self.nanos * self.cells as f64).round() as usize;
            let label = format!("╷{}", round(time / 1e9));
            if cell + label.chars().count() > self.cells {
                break;
            }
            let width = line.chars().count();
            line.push_str(&" ".repeat(cell.saturating_sub(width)));
            line.push_str(&label);
            time += step;
        }
        line
    }

    fn step(&self) -> f64 {
        round_step(self.nanos * 12.0 / self.cells as f64)
    }
}

/// Round times within `seconds`, at most about `count` of them, with their labels.
pub fn ticks(seconds: f64, count: usize) -> Vec<(f64, String)> {
    let nanos = (seconds * 1e9).max(1.0);
    let step = round_step(nanos / count.max(1) as f64);
    let times = (0..=count).map(|index| index as f64 * step).take_while(|time| *time <= nanos);
    times.map(|time| (time / 1e9, round(time / 1e9))).collect()
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`: it leaves room for the labels.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least).unwrap_or(least)
}

/// A round time: without the zeros that a measured one would have.
fn round(seconds: f64) -> String {
    let text = duration(seconds);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number} {unit}")
}

fn painted(run: &[Option<Fill>], style: Style) -> String {
    match run.first() {
        Some(Some(fill)) => paint::filled(&fill.glyph().to_string().repeat(run.len()), *fill, style),
        _ => " ".repeat(run.len()),
    }
}
