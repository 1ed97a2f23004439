//! What a case came to: its JSON line, its lines of the table, and how it differs from an earlier one.
//!
//! Not here: measuring. Invariant: whether a goal is met follows from the value and the goal alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What a case came to: medians of its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
    /// Tuples a second, words for the word counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit_per_second: Option<f64>,
    /// The first of `checks`, and its goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<f64>,
    pub(crate) rounds: u32,
    pub(crate) checks: Vec<Check>,
    /// Whatever else was measured, by name with its unit.
    pub(crate) figures: BTreeMap<String, f64>,
}

/// A value and its goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What it is, with its unit.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) goal: f64,
    pub(crate) bound: Bound,
    pub(crate) met: bool,
}

/// On which side of its goal a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

impl Check {
    pub(crate) fn new(what: impl Into<String>, value: f64, bound: Bound, goal: f64) -> Self {
        let met = match bound {
            Bound::AtLeast => value >= goal,
            Bound::AtMost => value <= goal,
        };
        Check { what: what.into(), value, goal, bound, met }
    }
}

/// Figures by name.
pub(crate) fn figures<const N: usize>(figures: [(&str, f64); N]) -> BTreeMap<String, f64> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Outcome {
    /// An outcome of these checks, the first of which is the ratio; what is not known is left out.
    pub(crate) fn new(case: &str, rounds: u32, checks: Vec<Check>, figures: BTreeMap<String, f64>) -> Self {
        let first = checks.first();
        Outcome {
            case: case.to_owned(),
            limit: None,
            per_second: None,
            limit_per_second: None,
            ratio: first.map(|check| check.value),
            goal: first.map(|check| check.goal),
            rounds,
            checks,
            figures,
        }
    }

    /// Lines for a person: one for each check, and one with all figures.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        for (at, check) in self.checks.iter().enumerate() {
            let case = if at == 0 { &self.case } else { "" };
            let sign = if check.bound == Bound::AtLeast { '≥' } else { '≤' };
            let (value, goal) = (number(check.value), number(check.goal));
            let verdict = if check.met { "met" } else { "MISSED" };
            let _ = writeln!(lines, "{case:<26} {:<38} {value:>10}   {sign} {goal:<8} {verdict}", check.what);
        }
        if self.checks.is_empty() {
            let _ = writeln!(lines, "{}", self.case);
        }
        let mut figures = Vec::new();
        let mut told = Vec::new();
        let mut rate = |what: &str, rate: Option<f64>, prefix: &str| {
            let Some(rate) = rate else { return };
            let mut names = ["least_per_second", "most_per_second", "cpu_seconds_per_million"]
                .map(|name| format!("{prefix}{name}"));
            let known = names.each_ref().map(|name| self.figures.get(name).copied());
            figures.push(match known {
                [Some(least), Some(most), Some(cpu)] => {
                    told.extend(names.iter_mut().map(std::mem::take));
                    let (least, most, cpu) = (number(least), number(most), number(cpu));
                    format!("{what}{}/s ({least} to {most}; {cpu} CPU s for a million)", number(rate))
                }
                _ => format!("{what}{}/s", number(rate)),
            });
        };
        rate("", self.per_second, "");
        rate(&format!("{} ", self.limit.as_deref().unwrap_or_default()), self.limit_per_second, "limit_");
        let others = self.figures.iter().filter(|(name, _)| !told.contains(name));
        figures.extend(others.map(|(name, value)| format!("{name} {}", number(*value))));
        if !figures.is_empty() {
            let _ = writeln!(lines, "{:<26} {}", "", figures.join(", "));
        }
        lines
    }

    /// What differs from an earlier outcome of the case, a line for each value that both have.
    pub(crate) fn compared(&self, earlier: &Outcome) -> String {
        let mut lines = String::new();
        let mut compare = |what: &str, before: f64, now: f64| {
            let change = 100.0 * (now / before - 1.0);
            let _ = writeln!(
                lines,
                "{:<26} {what:<38} {:>10} -> {:>10} {change:>+7.1} %",
                self.case,
                number(before),
                number(now)
            );
        };
        if let (Some(before), Some(now)) = (earlier.per_second, self.per_second) {
            compare("per second", before, now);
        }
        for check in &self.checks {
            if let Some(before) = earlier.checks.iter().find(|before| before.what == check.what) {
                compare(&check.what, before.value, check.value);
            }
        }
        let figures = self.figures.iter().filter_map(|(name, now)| Some((name, *earlier.figures.get(name)?, *now)));
        figures.for_each(|(name, before, now)| compare(name, before, now));
        lines
    }
}

/// A number as a person reads it: some digits, and a letter for thousands.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.1}M", value / 1e6),
        large if large >= 1e4 => format!("{:.1}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 || large == 0.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle value; the lower of two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ratio: f64, per_second: f64) -> Outcome {
        let check = Check::new("ratio", ratio, Bound::AtLeast, 0.5);
        let mut outcome = Outcome::new("hop", 5, vec![check], figures([("cpu", 0.25)]));
        outcome.per_second = Some(per_second);
        outcome
    }

    #[test]
    fn a_goal_is_met_on_its_side() {
        assert!(Check::new("", 0.5, Bound::AtLeast, 0.5).met);
        assert!(!Check::new("", 0.49, Bound::AtLeast, 0.5).met);
        assert!(Check::new("", 2.0, Bound::AtMost, 2.0).met);
        assert!(!Check::new("", f64::NAN, Bound::AtMost, 2.0).met);
    }

    #[test]
    fn a_line_of_json_has_what_was_asked_for() {
        let json = serde_json::to_string(&outcome(0.25, 1e6)).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"case":"hop","per_second":1000000.0,"ratio":0.25,"goal":0.5,"rounds":5,"checks":[{"what":"ratio","#,
                r#""value":0.25,"goal":0.5,"bound":"at_least","met":false}],"figures":{"cpu":0.25}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome(0.25, 1e6));
    }

    #[test]
    fn changes_are_told_in_percent() {
        let lines = outcome(0.5, 1.5e6).compared(&outcome(0.25, 1e6));
        let changes: Vec<&str> = lines.lines().map(|line| line.split("-> ").last().unwrap().trim()).collect();
        assert_eq!(changes, ["1.5M   +50.0 %", "0.500  +100.0 %", "0.250    +0.0 %"]);
    }

    #[test]
    fn the_table_says_what_is_missed() {
        let lines = outcome(0.25, 1e6).lines();
        assert!(lines.starts_with("hop ") && lines.contains("0.250   ≥ 0.500    MISSED"), "{lines}");
    }
}
