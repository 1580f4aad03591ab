//! The traced OpenAI server: what a token passes on its way, from the outside in.
//!
//! ```text
//! http ─▶ text ─▶ scheduler ─▶ backend
//!   └───────────────┴─▶ recorder ─▶ telemetry
//! ```
//! The API layer ([`http`]) validates, templates and tokenizes with the model's [`text`] side, hands the request to the
//! [`scheduler`], which steps a [`backend`]. Both write the request's journey down in a [`recorder`], which passes it on to
//! [`telemetry`] when it is complete. [`app`] puts the parts together.

pub mod app;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod cpu;
pub mod exit;
pub mod http;
pub mod hub;
pub mod loading;
pub mod model;
pub mod recorder;
pub mod scheduler;
pub mod served;
pub mod telemetry;
pub mod text;
