//! A request's journey as data.

#![warn(missing_docs)]

pub mod record;
