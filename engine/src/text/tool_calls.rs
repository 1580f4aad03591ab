//! Tool calls in a model's text, which arrives in pieces: what is content, what is a call. A call's arguments are passed on as
//! they come; markup never is, unless it turns out to be none. However the text is cut, the sum is the same.

mod json;

use json::{Head, ObjectEnd, head};

const HERMES_OPEN: &str = "<tool_call>";
const HERMES_CLOSE: &str = "</tool_call>";
const LLAMA_TAG: &str = "<|python_tag|>";
/// A call whose arguments begin later than this many bytes is not passed on before it is complete.
const LONGEST_HEAD: usize = 1024;

/// How a model writes tool calls; the names are those of vLLM's `--tool-call-parser`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ToolCallFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, anywhere in the text (Hermes, Qwen 2.5 and 3, SmolLM3).
    #[value(name = "hermes")]
    Hermes,
    /// A text that is nothing but `{"name": ..., "parameters": {...}}`, several with `;` between them (Llama 3.1, 3.2, 3.3).
    #[value(name = "llama3_json")]
    Llama3Json,
}

impl ToolCallFormat {
    /// What a chat template shows of it.
    pub fn of_template(template: &str) -> Option<Self> {
        let has = |words: &str| template.contains(words);
        // Qwen3-Coder and others write XML between the same tags.
        let xml = has("<function=") || has("<arg_key>");
        let llama = has(LLAMA_TAG) || (has("<|start_header_id|>") && has("tools") && has("\"parameters\""));
        match () {
            () if has(HERMES_OPEN) && !xml => Some(Self::Hermes),
            () if llama => Some(Self::Llama3Json),
            () => None,
        }
    }

    /// The key of a call's arguments that the model was trained to write.
    pub fn arguments_key(self) -> &'static str {
        match self {
            Self::Hermes => "arguments",
            Self::Llama3Json => "parameters",
        }
    }
}

/// Where calls stand in a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Framing {
    /// Where the model puts them.
    Format(ToolCallFormat),
    /// The text is an array of calls: a grammar sees to it.
    Array,
    /// The text is the arguments of a call of this function: a grammar sees to it.
    Arguments(String),
}

/// What a piece of text turned out to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// Content.
    pub text: String,
    /// Parts of calls, in order.
    pub calls: Vec<CallDelta>,
}

/// A part of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallDelta {
    /// Which call of the text, from 0.
    pub index: u32,
    /// The function's name, in the first part of a call.
    pub name: Option<String>,
    /// More of the arguments, a JSON text.
    pub arguments: String,
}

impl CallDelta {
    /// Puts later parts behind earlier ones; parts of one call become one.
    pub fn append(calls: &mut Vec<Self>, later: impl IntoIterator<Item = Self>) {
        for delta in later {
            match calls.iter_mut().rev().find(|call| call.index == delta.index) {
                Some(call) => call.arguments.push_str(&delta.arguments),
                None => calls.push(delta),
            }
        }
    }
}

/// Parses the text of one sequence.
#[derive(Debug, Clone)]
pub struct ToolCallParser {
    framing: Framing,
    /// Calls after the first are left out.
    only_first: bool,
    state: State,
    /// Text that nothing is decided about.
    held: String,
    /// Calls so far, those that are left out too.
    calls: u32,
}

#[derive(Debug, Clone)]
enum State {
    /// Before the first call, or between calls.
    Between,
    /// Behind the opening markup, which is content again if no call follows.
    Opened(String),
    /// The same, inside an object of which only the end will say what it is; this many bytes of it were looked at.
    Unclear { markup: String, end: ObjectEnd, seen: usize },
    /// Inside the arguments of a call.
    Arguments(ObjectEnd),
    /// Behind the arguments, inside the call's object.
    Object(ObjectEnd),
    /// Behind the call's object.
    Behind,
    /// All that follows is content.
    Content,
    /// Nothing that follows counts.
    Over,
}

impl ToolCallParser {
    /// A parser at the beginning of a text; without `parallel`, only the first call counts.
    pub fn new(framing: Framing, parallel: bool) -> Self {
        Self { framing, only_first: !parallel, state: State::Between, held: String::new(), calls: 0 }
    }

    /// There was a call.
    pub fn called(&self) -> bool {
        self.calls > 0
    }

    /// Takes more of the text; gives what is decided now.
    pub fn push(&mut self, text: &str) -> Parsed {
        self.held.push_str(text);
        let mut out = Parsed::default();
        while self.step(&mut out) {}
        out
    }

    /// What is left when the text ends: markup without a call is content.
    pub fn finish(&mut self) -> Parsed {
        let mut out = Parsed::default();
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Between if self.called() && held.trim().is_empty() => {}
            State::Between | State::Content => out.text = held,
            State::Opened(markup) | State::Unclear { markup, .. } => out.text = markup + &held,
            State::Arguments(_) | State::Object(_) | State::Behind | State::Over => {}
        }
        out
    }

    /// Decides about the beginning of what is held; false when that takes more text.
    fn step(&mut self, out: &mut Parsed) -> bool {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => self.between(out),
            State::Opened(markup) => self.opened(markup, out),
            State::Unclear { markup, end, seen } => self.unclear(markup, end, seen, out),
            State::Arguments(end) => self.arguments(end, out),
            State::Object(end) => self.object(end),
            State::Behind => self.behind(),
            State::Content => {
                out.text.push_str(&std::mem::take(&mut self.held));
                self.wait(State::Content)
            }
            State::Over => {
                self.held.clear();
                self.wait(State::Over)
            }
        }
    }

    fn go(&mut self, state: State) -> bool {
        self.state = state;
        true
    }

    fn wait(&mut self, state: State) -> bool {
        self.state = state;
        false
    }

    // === the states ===

    fn between(&mut self, out: &mut Parsed) -> bool {
        match self.framing {
            Framing::Format(ToolCallFormat::Hermes) => self.find_tag(out),
            Framing::Format(ToolCallFormat::Llama3Json) => self.find_object(LLAMA_TAG),
            Framing::Array => self.find_object("["),
            Framing::Arguments(_) => {
                let Some(at) = self.held.find('{') else { return self.wait(State::Between) };
                self.held.drain(..at);
                if let Framing::Arguments(name) = &self.framing {
                    let name = name.clone();
                    self.begin(name, out);
                }
                self.go(State::Arguments(ObjectEnd::default()))
            }
        }
    }

    /// Content up to a tag. White space in front of one is markup too, so it is held back.
    fn find_tag(&mut self, out: &mut Parsed) -> bool {
        if let Some(at) = self.held.find(HERMES_OPEN) {
            out.text.push_str(self.held[..at].trim_end());
            self.held.drain(..at + HERMES_OPEN.len());
            return self.go(State::Opened(HERMES_OPEN.to_owned()));
        }
        let decided = self.held.len() - begun(&self.held, HERMES_OPEN);
        let decided = self.held[..decided].trim_end().len();
        out.text.extend(self.held.drain(..decided));
        self.wait(State::Between)
    }

    /// A text of calls alone, behind a mark that may be there.
    fn find_object(&mut self, mark: &str) -> bool {
        let blank = self.held.len() - self.held.trim_start().len();
        let rest = &self.held[blank..];
        let marked = rest.strip_prefix(mark).map_or(blank, |_| blank + mark.len());
        let object = marked + self.held[marked..].len() - self.held[marked..].trim_start().len();
        match self.held[object..].chars().next() {
            Some('{') => {
                let markup = self.held.drain(..object).collect();
                self.go(State::Opened(markup))
            }
            // Nothing but white space, or the beginning of the mark.
            None => self.wait(State::Between),
            Some(_) if mark.starts_with(&self.held[object..]) && marked == blank => self.wait(State::Between),
            Some(_) => self.go(State::Content),
        }
    }

    fn opened(&mut self, markup: String, out: &mut Parsed) -> bool {
        match head(&self.held[..self.held.floor_char_boundary(LONGEST_HEAD)]) {
            Head::Incomplete if self.held.len() < LONGEST_HEAD => self.wait(State::Opened(markup)),
            Head::Call { name, arguments } => {
                self.held.drain(..arguments);
                self.begin(name, out);
                self.go(State::Arguments(ObjectEnd::default()))
            }
            Head::Other | Head::Incomplete if self.held.trim_start().starts_with('{') => {
                self.go(State::Unclear { markup, end: ObjectEnd::default(), seen: 0 })
            }
            Head::Other | Head::Incomplete => {
                out.text.push_str(&markup);
                self.no_call()
            }
        }
    }

    fn unclear(&mut self, markup: String, mut end: ObjectEnd, seen: usize, out: &mut Parsed) -> bool {
        let Some(found) = end.find(&self.held[seen..]) else {
            let seen = self.held.len();
            return self.wait(State::Unclear { markup, end, seen });
        };
        let object: String = self.held.drain(..seen + found).collect();
        match json::call(&object) {
            Some((name, arguments)) => {
                self.begin(name, out);
                self.add(arguments, out);
                self.go(State::Behind)
            }
            None => {
                out.text.push_str(&markup);
                out.text.push_str(&object);
                self.no_call()
            }
        }
    }

    /// What looked like a call is none.
    fn no_call(&mut self) -> bool {
        let hermes = self.framing == Framing::Format(ToolCallFormat::Hermes);
        self.go(if hermes { State::Between } else { State::Content })
    }

    fn arguments(&mut self, mut end: ObjectEnd, out: &mut Parsed) -> bool {
        let found = end.find(&self.held);
        let arguments: String = self.held.drain(..found.unwrap_or(self.held.len())).collect();
        self.add(arguments, out);
        match (found, &self.framing) {
            (None, _) => self.wait(State::Arguments(end)),
            (Some(_), Framing::Arguments(_)) => self.go(State::Over),
            (Some(_), _) => self.go(State::Object(ObjectEnd::inside())),
        }
    }

    fn object(&mut self, mut end: ObjectEnd) -> bool {
        let found = end.find(&self.held);
        self.held.drain(..found.unwrap_or(self.held.len()));
        if found.is_some() { self.go(State::Behind) } else { self.wait(State::Object(end)) }
    }

    fn behind(&mut self) -> bool {
        let rest = self.held.trim_start();
        let blank = self.held.len() - rest.len();
        let separators: &[char] = match self.framing {
            Framing::Format(ToolCallFormat::Hermes) => {
                if rest.starts_with(HERMES_CLOSE) {
                    self.held.drain(..blank + HERMES_CLOSE.len());
                } else if HERMES_CLOSE.starts_with(rest) {
                    return self.wait(State::Behind);
                }
                return self.go(State::Between);
            }
            Framing::Format(ToolCallFormat::Llama3Json) => &[';', ','],
            Framing::Array => &[','],
            Framing::Arguments(_) => return self.go(State::Over),
        };
        let next = rest.trim_start_matches(separators).trim_start();
        let (skipped, next) = (self.held.len() - next.len(), next.chars().next());
        match next {
            None => self.wait(State::Behind),
            Some('{') => {
                let markup = self.held.drain(..skipped).collect();
                self.go(State::Opened(markup))
            }
            Some(_) if self.framing == Framing::Array => self.go(State::Over),
            Some(_) => self.go(State::Content),
        }
    }

    // === what comes out ===

    fn begin(&mut self, name: String, out: &mut Parsed) {
        self.calls += 1;
        if self.counts() {
            out.calls.push(CallDelta { index: self.calls - 1, name: Some(name), arguments: String::new() });
        }
    }

    fn add(&mut self, arguments: String, out: &mut Parsed) {
        if self.counts() && !arguments.is_empty() {
            CallDelta::append(&mut out.calls, [CallDelta { index: self.calls - 1, name: None, arguments }]);
        }
    }

    fn counts(&self) -> bool {
        self.calls == 1 || !self.only_first
    }
}

/// Bytes at the end of a text that begin the tag.
fn begun(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|n| text.ends_with(&tag[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests;
