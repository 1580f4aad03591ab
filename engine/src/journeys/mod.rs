//! Journeys to look at without a backend: those in flight, and those that ended last.
//!
//! ```text
//! Recorder ─▶ Registry ─▶ the exporter          Scheduler ─┐ where the sequences in the core are,
//!                 └─────▶ View ◀────────────────────────────┘ copied when somebody looks
//!                          └─▶ Entry ─▶ Summary, filtered ─▶ admin pages, JSON ─▶ `sojourn-engine journeys`
//! ```
//! [`summary`] and [`filter`] are pure; [`registry`] keeps, [`view`] collects, [`terminal`] is the other end of the JSON.

pub mod filter;
pub mod registry;
pub mod summary;
pub mod terminal;
pub mod view;
