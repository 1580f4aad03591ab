//! The sandbox cluster and the vocabulary of the scenarios that run on it.

#![warn(missing_docs)]

pub mod sandbox;
