//! Which orders a list holds, as callers write it: the part of AIP-160 that orders need.
//!
//! ```text
//! filter      = [comparison {"AND" comparison}]
//! comparison  = "state" ("=" | "!=") STATE_…
//!             | "create_time" ("<" | "<=" | ">" | ">=") "RFC 3339 moment in quotes"
//! ```
//!
//! Everything else is refused with what was expected, and nothing is guessed.

use jiff::Timestamp;

use crate::order::State;

/// The longest filter, in characters.
pub const FILTER_CHARACTERS_MAX: usize = 500;
/// What an ordering comparison may be, longest first, so that `<=` is not read as `<`.
const ORDERINGS: &[(&str, Ordering)] =
    &[("<=", Ordering::AtMost), (">=", Ordering::AtLeast), ("<", Ordering::Before), (">", Ordering::After)];

/// The orders of a list. None of a limit: no limit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// The states that belong; none: all.
    pub states: Option<Vec<State>>,
    /// Created at this moment or later.
    pub from: Option<Timestamp>,
    /// Created before this moment.
    pub before: Option<Timestamp>,
}

/// What a filter must be; the text completes "the field …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFilter(&'static str);

const TOO_LONG: InvalidFilter = InvalidFilter("must have at most 500 characters");
const FORM: InvalidFilter =
    InvalidFilter("must be comparisons of state or create_time joined by AND, or empty");
const STATE: InvalidFilter =
    InvalidFilter("must compare state with = or != and STATE_PLACED or STATE_CANCELLED");
const MOMENT: InvalidFilter = InvalidFilter(
    "must compare create_time with <, <=, > or >= and a moment such as \"2026-01-01T00:00:00Z\" in double quotes",
);

#[derive(Clone, Copy)]
enum Ordering {
    Before,
    AtMost,
    After,
    AtLeast,
}

impl Filter {
    /// Reads a filter; empty text is every order.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        if text.chars().count() > FILTER_CHARACTERS_MAX {
            return Err(TOO_LONG);
        }
        let mut filter = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = filter.comparison(rest)?.trim_start();
            if rest.is_empty() {
                break;
            }
            // A word, not a prefix of one; and something must follow it.
            rest = rest.strip_prefix("AND").ok_or(FORM)?;
            rest = rest.strip_prefix(char::is_whitespace).ok_or(FORM)?.trim_start();
            if rest.is_empty() {
                return Err(FORM);
            }
        }
        Ok(filter)
    }

    /// Whether no order can match.
    pub fn is_nothing(&self) -> bool {
        let empty_span = self.from.zip(self.before).is_some_and(|(from, before)| from >= before);
        empty_span || self.states.as_ref().is_some_and(Vec::is_empty)
    }

    /// Takes one comparison off the front; gives what follows.
    fn comparison<'a>(&mut self, text: &'a str) -> Result<&'a str, InvalidFilter> {
        let (field, rest) = word(text);
        let rest = rest.trim_start();
        match field {
            "state" => self.state(rest),
            "create_time" => self.create_time(rest),
            _ => Err(FORM),
        }
    }

    fn state<'a>(&mut self, text: &'a str) -> Result<&'a str, InvalidFilter> {
        let (equal, rest) = match text.strip_prefix("!=") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix('=').ok_or(STATE)?),
        };
        let (name, rest) = word(rest.trim_start());
        let named = match name {
            "STATE_PLACED" => State::Placed,
            "STATE_CANCELLED" => State::Cancelled,
            _ => return Err(STATE),
        };
        let states = self.states.get_or_insert_with(|| State::ALL.to_vec());
        states.retain(|state| (*state == named) == equal);
        Ok(rest)
    }

    fn create_time<'a>(&mut self, text: &'a str) -> Result<&'a str, InvalidFilter> {
        let found = ORDERINGS.iter().find_map(|(sign, ordering)| Some((ordering, text.strip_prefix(sign)?)));
        let (ordering, rest) = found.ok_or(MOMENT)?;
        let rest = rest.trim_start().strip_prefix('"').ok_or(MOMENT)?;
        let (moment, rest) = rest.split_once('"').ok_or(MOMENT)?;
        let moment: Timestamp = moment.parse().map_err(|_| MOMENT)?;
        match ordering {
            Ordering::AtLeast => self.not_before(moment),
            Ordering::After => self.not_before(next(moment)?),
            Ordering::Before => self.only_before(moment),
            Ordering::AtMost => self.only_before(next(moment)?),
        }
        Ok(rest)
    }

    fn not_before(&mut self, moment: Timestamp) {
        self.from = Some(self.from.map_or(moment, |from| from.max(moment)));
    }

    fn only_before(&mut self, moment: Timestamp) {
        self.before = Some(self.before.map_or(moment, |before| before.min(moment)));
    }
}

/// The letters, digits and underscores in front, and the rest.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// The first moment after `moment`, as exactly as Postgres keeps moments.
fn next(moment: Timestamp) -> Result<Timestamp, InvalidFilter> {
    moment.checked_add(jiff::SignedDuration::from_micros(1)).map_err(|_| MOMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-01-01T12:00:00Z";

    fn noon(plus_micros: i64) -> Option<Timestamp> {
        let noon: Timestamp = NOON.parse().expect("a moment");
        Some(noon + jiff::SignedDuration::from_micros(plus_micros))
    }

    fn check(text: &str, expected: Result<Filter, InvalidFilter>) {
        assert_eq!(Filter::parse(text), expected, "{text}");
    }

    fn of_states(states: &[State]) -> Filter {
        Filter { states: Some(states.to_vec()), ..Filter::default() }
    }

    #[test]
    fn states_are_named_as_in_the_contract() {
        check("", Ok(Filter::default()));
        check("  ", Ok(Filter::default()));
        check("state = STATE_PLACED", Ok(of_states(&[State::Placed])));
        check("state=STATE_CANCELLED", Ok(of_states(&[State::Cancelled])));
        check("state != STATE_CANCELLED", Ok(of_states(&[State::Placed])));
        check("state = STATE_PLACED AND state = STATE_CANCELLED", Ok(of_states(&[])));
        check("state = PLACED", Err(STATE));
        check("state = state_placed", Err(STATE));
        check("state = STATE_UNSPECIFIED", Err(STATE));
        check("state > STATE_PLACED", Err(STATE));
        check("state", Err(STATE));
    }

    #[test]
    fn moments_bound_a_span_that_holds_its_start_and_not_its_end() {
        let span = |from, before| Ok(Filter { from, before, ..Filter::default() });
        check(&format!("create_time >= \"{NOON}\""), span(noon(0), None));
        check(&format!("create_time > \"{NOON}\""), span(noon(1), None));
        check(&format!("create_time<\"{NOON}\""), span(None, noon(0)));
        check(&format!("create_time <= \"{NOON}\""), span(None, noon(1)));
        check(
            "create_time >= \"2026-01-01T13:00:00+01:00\" AND create_time > \"2026-01-01T11:00:00Z\"",
            span(noon(0), None),
        );
        check("create_time = \"2026-01-01T12:00:00Z\"", Err(MOMENT));
        check("create_time > 2026-01-01T12:00:00Z", Err(MOMENT));
        check("create_time > \"yesterday\"", Err(MOMENT));
        check("create_time > \"2026-01-01T12:00:00Z", Err(MOMENT));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "buyer = x",
            "state = STATE_PLACED OR state = STATE_PLACED",
            "state = STATE_PLACED AND",
            "state = STATE_PLACED ANDstate = STATE_PLACED",
            "state = STATE_PLACED state = STATE_PLACED",
            "AND",
            "NOT state = STATE_PLACED",
            "state = STATE_PLACED; DROP TABLE orders",
            "state = STATE_PLACED\0",
        ] {
            check(text, Err(FORM));
        }
        check(&" ".repeat(FILTER_CHARACTERS_MAX + 1), Err(TOO_LONG));
    }

    #[test]
    fn a_filter_that_nothing_matches_is_known_as_such() {
        let nothing = |text: &str| Filter::parse(text).expect("a filter").is_nothing();
        assert!(nothing("state = STATE_PLACED AND state != STATE_PLACED"));
        assert!(nothing(&format!("create_time < \"{NOON}\" AND create_time >= \"{NOON}\"")));
        assert!(!nothing(&format!("create_time <= \"{NOON}\" AND create_time >= \"{NOON}\"")));
        assert!(!nothing(""));
    }
}
