//! Names with their meanings: the documentation of a constant is also what the journey reference says of it.

/// A name on the wire and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: &'static str,
    /// The documentation of its constant, as rustdoc has it.
    pub meaning: &'static str,
}

/// Defines constants, and a slice of all of them with their documentation.
macro_rules! names {
    (
        $(#[$meta:meta])* pub const $set:ident;
        $($(#[doc = $doc:literal])+ pub const $name:ident: &str = $value:literal;)+
    ) => {
        $($(#[doc = $doc])+ pub const $name: &str = $value;)+

        $(#[$meta])*
        pub const $set: &[Name] = &[$(Name { name: $name, meaning: concat!($($doc),+).trim_ascii() },)+];
    };
}

pub(crate) use names;
