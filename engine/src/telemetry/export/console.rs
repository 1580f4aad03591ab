//! Journeys on standard output, drawn for people (`OTEL_TRACES_EXPORTER=console`).

use std::io::Write;

use sojourn_contract::journey::Detail;
use sojourn_journey::draw::{Style, draw};
use sojourn_journey::trace::Trace;

use super::counts::{Counts, DropReason};
use super::queue::Queue;

/// Columns: as wide as terminals are.
const WIDTH: usize = 100;

/// Draws to `out` until the queue is closed and empty.
pub async fn print(queue: &Queue, detail: Detail, counts: &Counts, mut out: impl Write) {
    while let Some(parcels) = queue.gather().await {
        for parcel in parcels {
            let tally = parcel.tally(detail);
            let mut drawing = draw(&Trace { spans: parcel.describe(detail) }, Style { width: WIDTH, color: false });
            drawing.push('\n');
            match out.write_all(drawing.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => counts.exported(tally),
                // Nobody reads.
                Err(_) => counts.dropped(DropReason::Refused, tally),
            }
        }
    }
}
