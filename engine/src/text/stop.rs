//! Stop strings on text that arrives in pieces.

use super::Decoder;
use crate::scheduler::request::StopMatcher;

/// Lets text through up to the first stop string, and holds back what may yet become one.
pub struct StopFilter {
    stop: Vec<String>,
    /// The stop string is shown as well.
    include: bool,
    held: String,
    stopped: bool,
}

impl StopFilter {
    /// Watches for these strings; empty ones are ignored.
    pub fn new(stop: Vec<String>) -> Self {
        let stop = stop.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stop, include: false, held: String::new(), stopped: false }
    }

    /// Shows the stop string as well (`include_stop_str_in_output`).
    pub fn including(self, include: bool) -> Self {
        Self { include, ..self }
    }

    /// Takes a piece of text; gives what may be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        // The first to be complete, and of those the longest: what is shown does not depend on how tokens cut the text.
        let found = self.stop.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at)));
        if let Some((end, at)) = found.min() {
            self.stopped = true;
            self.held.truncate(if self.include { end } else { at });
            return std::mem::take(&mut self.held);
        }
        let keep = self.held.len() - self.undecided();
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What is left when the sequence ends.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// A stop string was seen.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Bytes at the end of the held text that begin some stop string.
    fn undecided(&self) -> usize {
        let longest =
            |stop: &String| (1..stop.len()).rev().find(|n| stop.is_char_boundary(*n) && self.held.ends_with(&stop[..*n]));
        self.stop.iter().filter_map(longest).max().unwrap_or(0)
    }
}

/// A [`StopFilter`] behind a detokenizer: what the scheduler asks after each token.
pub struct StopOnText {
    decoder: Decoder,
    filter: StopFilter,
}

impl StopOnText {
    /// Watches the text of one sequence.
    pub fn new(decoder: Decoder, filter: StopFilter) -> Self {
        Self { decoder, filter }
    }
}

impl StopMatcher for StopOnText {
    fn push(&mut self, token: u32, may_stop: bool) -> bool {
        let text = self.decoder.push(token).filter(|_| may_stop);
        if let Some(text) = text {
            self.filter.push(&text);
        }
        self.filter.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stop: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let mut filter = StopFilter::new(stop.iter().map(|stop| (*stop).to_owned()).collect());
        let shown = pieces.iter().map(|piece| filter.push(piece)).collect();
        (shown, filter.finish(), filter.stopped())
    }

    #[test]
    fn text_ends_before_the_stop_string() {
        let (shown, rest, stopped) = shown(&["END"], &["one E", "N", "D two"]);
        assert_eq!((shown.concat().as_str(), rest.as_str(), stopped), ("one ", "", true));
    }

    #[test]
    fn what_only_began_like_one_is_shown_later() {
        let (shown, rest, stopped) = shown(&["END"], &["EN", "E", "!"]);
        assert_eq!((shown, rest.as_str(), stopped), (vec![String::new(), "EN".to_owned(), "E!".to_owned()], "", false));
    }

    #[test]
    fn what_is_held_back_at_the_end_is_not_lost() {
        let (shown, rest, _) = shown(&["ééé"], &["aéé"]);
        assert_eq!((shown.concat().as_str(), rest.as_str()), ("a", "éé"));
    }

    #[test]
    fn text_that_may_not_stop_is_not_looked_at() {
        let decoder = Decoder::new(std::sync::Arc::new(super::super::bytes::tokenizer()), true);
        let mut matcher = StopOnText::new(decoder, StopFilter::new(vec!["ab".to_owned()]));
        let stops: Vec<bool> = b"abab".iter().zip(0..).map(|(byte, n)| matcher.push(u32::from(*byte), n >= 2)).collect();
        assert_eq!(stops, [false, false, false, true]);
    }

    #[test]
    fn the_stop_string_is_shown_where_that_is_asked_for() {
        let mut filter = StopFilter::new(vec!["END".to_owned()]).including(true);
        assert_eq!((filter.push("one E") + &filter.push("ND two"), filter.stopped()), ("one END".to_owned(), true));
    }

    #[test]
    fn the_first_stop_string_to_be_complete_wins_however_the_text_is_cut() {
        for (stop, text, expected) in [(["c", "b"], "abc", "a"), (["b", "abc"], "xabc", "xa"), (["b", "ab"], "xab", "x")] {
            let letters: Vec<&str> = text.split("").collect();
            assert_eq!(shown(&stop, &[text]).0.concat(), expected);
            assert_eq!(shown(&stop, &letters).0.concat(), expected);
        }
    }
}
