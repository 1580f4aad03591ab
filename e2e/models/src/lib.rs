//! Makes test models: requantised real ones, random tiny ones of each architecture, and random ones of a real one's size. Nothing
//! of a model is committed.

pub mod random_llama;
pub mod requantise;
pub mod smollm;
pub mod tiny;
