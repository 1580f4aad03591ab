//! The parts of the text side together.

mod streaming;
mod templates;
