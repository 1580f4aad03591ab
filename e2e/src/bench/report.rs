//! The document: sections with tables and verdicts, as Markdown. Pure.

use std::fmt::Write;

use super::machine::Machine;
use super::page::Page;
use crate::statistics::Spread;

/// One question and its answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// How it was measured.
    pub how: String,
    /// The numbers.
    pub tables: Vec<Table>,
    /// Whether targets were reached.
    pub verdicts: Vec<Verdict>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Names of the columns; the first is left-aligned, the others are numbers.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }
}

/// A target and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The target, in words.
    pub target: String,
    /// What was measured; `None` if it could not be.
    pub measured: Option<Spread>,
    /// What the median must be.
    pub bound: Bound,
    /// How the numbers are written.
    pub unit: Unit,
    /// For a target that was missed: what limits it, as far as a measurement shows it.
    pub limit: String,
}

/// What a median must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::Below(bound) => value < bound,
        }
    }
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number with two digits behind the point, and these words.
    Plain(&'static str),
    /// A ratio with three digits behind the point.
    Ratio,
    /// Seconds, written as ms below one second.
    Seconds,
    /// A whole number and these words.
    Whole(&'static str),
}

impl Unit {
    /// A number with its unit.
    pub fn write(self, value: f64) -> String {
        match self {
            Self::Plain(words) => format!("{value:.2}{words}"),
            Self::Ratio => format!("{value:.3}"),
            Self::Seconds if value < 0.01 => format!("{:.2} ms", value * 1e3),
            Self::Seconds if value < 1.0 => format!("{:.0} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Whole(words) => format!("{value:.0}{words}"),
        }
    }

    /// A median with its extremes; a dash without a value.
    pub fn spread(self, spread: Option<Spread>) -> String {
        match spread {
            None => "–".to_owned(),
            Some(Spread { median, least, most }) if least == most => self.write(median),
            Some(Spread { median, least, most }) => {
                format!("{} ({}..{})", self.write(median), self.write(least), self.write(most))
            }
        }
    }
}

impl Verdict {
    /// On a target that the median must stay below.
    pub fn below(target: &str, measured: Option<Spread>, bound: f64, unit: Unit, limit: &str) -> Self {
        Self { target: target.to_owned(), measured, bound: Bound::Below(bound), unit, limit: limit.to_owned() }
    }

    /// Whether the target was reached; `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.measured.map(|spread| self.bound.holds(spread.median))
    }

    fn line(&self) -> String {
        let measured = self.unit.spread(self.measured);
        match (self.is_met(), self.measured) {
            (Some(true), Some(spread)) if self.bound.holds(spread.least) && self.bound.holds(spread.most) => {
                format!("**Met**: {}; measured {measured}.", self.target)
            }
            (Some(true), _) => format!("**Met by the median, not by every round**: {}; measured {measured}.", self.target),
            (Some(false), _) => {
                format!("**Missed**: {}; measured {measured}. {}", self.target, self.limit).trim_end().to_owned()
            }
            (None, _) => format!("**Not measured**: {}.", self.target),
        }
    }
}

/// The whole document.
pub fn render(page: &Page, machine: &Machine, command: &str, sections: &[Section]) -> String {
    let mut text = String::new();
    // Writing to a text does not fail.
    write_page(&mut text, page, machine, command, sections).ok();
    text
}

fn write_page(text: &mut String, page: &Page, machine: &Machine, command: &str, sections: &[Section]) -> std::fmt::Result {
    let Page { title, target, how, .. } = page;
    writeln!(text, "# {title}\n")?;
    writeln!(
        text,
        "Written by `{command}`; do not edit: `make {target}` measures all of it again and writes this page anew.\n"
    )?;
    writeln!(text, "A figure is the median of its rounds, with the least and the most in parentheses. {how}\n")?;
    for (name, value) in machine.facts() {
        writeln!(text, "- {name}: {value}")?;
    }
    for section in sections {
        writeln!(text, "\n## {}\n\n{}", section.title, section.how)?;
        for table in &section.tables {
            write_table(text, table)?;
        }
        if !section.verdicts.is_empty() {
            writeln!(text)?;
        }
        for verdict in &section.verdicts {
            writeln!(text, "- {}", verdict.line())?;
        }
        for note in &section.notes {
            writeln!(text, "\n{note}")?;
        }
    }
    Ok(())
}

/// A table alone.
pub fn render_table(table: &Table) -> String {
    let mut text = String::new();
    // Writing to a text does not fail.
    write_table(&mut text, table).ok();
    text
}

fn write_table(page: &mut String, table: &Table) -> std::fmt::Result {
    let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rule: Vec<String> = (0..table.head.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
    writeln!(page, "\n{}\n{}", row(&table.head), row(&rule))?;
    for cells in &table.rows {
        writeln!(page, "{}", row(cells))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(values: &[f64]) -> Verdict {
        Verdict {
            target: "at least 0.99 of the speed".into(),
            measured: Spread::of(values),
            bound: Bound::AtLeast(0.99),
            unit: Unit::Ratio,
            limit: "The exporter takes 5 % of the CPU.".into(),
        }
    }

    #[test]
    fn a_verdict_says_whether_every_round_agrees() {
        assert!(
            verdict(&[0.99, 1.0]).line().starts_with("**Met**: at least 0.99 of the speed; measured 0.995 (0.990..1.000).")
        );
        assert!(verdict(&[0.9, 1.0, 1.0]).line().starts_with("**Met by the median, not by every round**"));
    }

    #[test]
    fn a_missed_target_says_what_limits_it_and_an_unmeasured_one_that_it_is_so() {
        let missed = verdict(&[0.9]).line();
        assert_eq!(missed, "**Missed**: at least 0.99 of the speed; measured 0.900. The exporter takes 5 % of the CPU.");
        assert_eq!(verdict(&[]).line(), "**Not measured**: at least 0.99 of the speed.");
        assert_eq!(verdict(&[]).is_met(), None);
    }

    #[test]
    fn numbers_are_written_in_their_units() {
        assert_eq!(Unit::Seconds.write(0.000_25), "0.25 ms");
        assert_eq!(Unit::Seconds.write(0.25), "250 ms");
        assert_eq!(Unit::Seconds.write(2.5), "2.50 s");
        assert_eq!(Unit::Whole(" bytes").spread(Spread::of(&[400.0])), "400 bytes");
        assert_eq!(Unit::Ratio.spread(None), "–");
    }

    #[test]
    fn a_page_has_its_tables_and_verdicts() {
        let table = Table { rows: vec![vec!["off".into(), "1".into()]], ..Table::new(&["tracing", "tokens/s"]) };
        let section = Section {
            title: "What tracing costs",
            how: "Measured so.".into(),
            tables: vec![table],
            verdicts: vec![verdict(&[1.0])],
            notes: vec!["A note.".into()],
        };
        let page = render(&Page::ENGINE, &Machine::default(), "make bench", &[section]);
        assert!(
            page.contains("\n## What tracing costs\n\nMeasured so.\n\n| tracing | tokens/s |\n| --- | ---: |\n| off | 1 |\n"),
            "{page}"
        );
        assert!(page.contains("| off | 1 |\n\n- **Met**"), "{page}");
        assert!(page.ends_with("\nA note.\n"), "{page}");
    }
}
