//! Makes test models: requantised real ones, and random tiny ones of each architecture. Nothing of a model is committed.

pub mod requantise;
pub mod smollm;
pub mod tiny;
