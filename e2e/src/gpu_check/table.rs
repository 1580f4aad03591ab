//! What was found, as one table for a terminal and for a page. Pure.

use crate::bench::report::{Table, render_table};

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// Nothing was asked of it.
    Noted,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether that is well.
    pub verdict: Verdict,
}

impl Row {
    /// Something that has to hold.
    pub fn demanded(what: impl Into<String>, found: impl Into<String>, holds: bool) -> Self {
        let verdict = if holds { Verdict::Passed } else { Verdict::Failed };
        Self { what: what.into(), found: found.into(), verdict }
    }

    /// A number of which nothing is asked.
    pub fn noted(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), found: found.into(), verdict: Verdict::Noted }
    }
}

/// The table as Markdown.
pub fn render(rows: &[Row]) -> String {
    let mut table = Table::new(&["what", "found", "verdict"]);
    let verdict = |row: &Row| match row.verdict {
        Verdict::Passed => "ok",
        Verdict::Failed => "**FAILED**",
        Verdict::Noted => "",
    };
    table.rows = rows.iter().map(|row| vec![row.what.clone(), row.found.clone(), verdict(row).to_owned()]).collect();
    render_table(&table)
}

/// Whether nothing failed.
pub fn passed(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row.verdict != Verdict::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_table_and_nothing_at_all_does_too() {
        let rows = [Row::noted("speed", "3"), Row::demanded("identity", "equal", true)];
        assert!(passed(&rows) && !passed(&[]) && !passed(&[Row::demanded("identity", "1 differs", false)]));
        assert!(render(&rows).contains("| speed | 3 |  |\n| identity | equal | ok |\n"), "{}", render(&rows));
    }
}
