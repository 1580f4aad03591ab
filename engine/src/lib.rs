//! The traced OpenAI server: what a token passes on its way, from the outside in.
//!
//! ```text
//! http ─▶ text ─▶ scheduler ─▶ backend
//!   └───────────────┴─▶ recorder ─▶ telemetry
//!   └───────────────┴─▶ metrics
//! ```
//! The API layer ([`http`]) validates, templates and tokenizes with the model's [`text`] side, hands the request to the
//! [`scheduler`], which steps a [`backend`]. Both write the request's journey down in a [`recorder`], which passes it on to
//! [`telemetry`] when it is complete, and count in [`metrics`]. On the way there it is seen by [`journeys`], which the [`admin`]
//! port shows. [`app`] puts the parts together.

pub mod admin;
pub mod app;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod cpu;
pub mod exit;
pub mod http;
pub mod hub;
pub mod journeys;
pub mod loading;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod operation;
pub mod recorder;
pub mod scheduler;
pub mod served;
pub mod telemetry;
pub mod text;
