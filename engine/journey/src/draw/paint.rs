//! Fills and colours of the parts.

use sojourn_contract::journey::Bottleneck;

use super::Style;

/// What a cell of a bar is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// A part of a request's time.
    Part(Bottleneck),
    /// A span that has no parts.
    Whole,
}

impl Fill {
    pub(super) fn glyph(self) -> char {
        match self {
            Self::Part(Bottleneck::Api) => '·',
            Self::Part(Bottleneck::Queue) => '░',
            Self::Part(Bottleneck::Prefill) => '▒',
            Self::Part(Bottleneck::Decode) => '█',
            Self::Part(Bottleneck::Preempted) => '×',
            Self::Part(Bottleneck::Client) => '─',
            Self::Whole => '━',
        }
    }

    fn color(self) -> u8 {
        match self {
            Self::Part(Bottleneck::Api) => 34,
            Self::Part(Bottleneck::Queue) => 33,
            Self::Part(Bottleneck::Prefill) => 36,
            Self::Part(Bottleneck::Decode) => 32,
            Self::Part(Bottleneck::Preempted) => 31,
            Self::Part(Bottleneck::Client) => 35,
            Self::Whole => 37,
        }
    }
}

/// `text` in the colour of a fill.
pub(super) fn filled(text: &str, fill: Fill, style: Style) -> String {
    escaped(text, fill.color(), style)
}

/// What matters less.
pub(super) fn dim(text: &str, style: Style) -> String {
    escaped(text, 2, style)
}

/// What matters more.
pub(super) fn bold(text: &str, style: Style) -> String {
    escaped(text, 1, style)
}

/// What went wrong.
pub(super) fn alarm(text: &str, style: Style) -> String {
    escaped(text, 31, style)
}

fn escaped(text: &str, code: u8, style: Style) -> String {
    if style.color && !text.trim().is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
