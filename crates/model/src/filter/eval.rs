//! Whether a row satisfies a filter.
//!
//! Results are exactly Postgres's, but for one liberty: where a row cannot satisfy the filter whatever the answers to
//! its questions would be, none is asked, and the result may be Unknown where Postgres would say False.
//! Values that are missing make a condition Unknown, so that a row is never delivered on a guess.

use super::compile::{Atom, Test};
use super::native::{Against, jsonb};
use super::row::{Row, RowValue};
use super::{BoundCondition, Truth};
use crate::tuple::Tuple;

/// A filter ready to be evaluated against rows of one relation version.
#[derive(Clone, Debug)]
pub struct CompiledFilter {
    pub(super) root: Node,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Decided.
    Known(Truth),
    /// Depends on comparisons that only Postgres can make.
    Ask(Vec<Question<'a>>),
}

/// One comparison that only Postgres can make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The condition. The answer wanted is that of its operation, without its `not.`.
    pub condition: &'a BoundCondition,
    /// The row's value, never NULL.
    pub value: &'a str,
}

impl std::fmt::Debug for Question<'_> {
    /// Leaves the row's value out: it never reaches logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("condition", self.condition).finish_non_exhaustive()
    }
}

/// A part of a compiled filter. The parts of a group that may ask come last.
#[derive(Clone, Debug)]
pub(super) enum Node {
    And(Vec<Self>),
    Or(Vec<Self>),
    Atom(Atom),
}

impl CompiledFilter {
    /// Evaluates against a row image. `fallback` is the full old image, for values that are unchanged in `image`.
    /// `held` says which columns the image holds: those of the key in a key-only old image; `None` means all.
    #[must_use]
    pub fn evaluate<'a>(&'a self, image: &'a Tuple, fallback: Option<&'a Tuple>, held: Option<&[bool]>) -> Outcome<'a> {
        let row = Row { image, fallback, held };
        match self.root.first_pass(&row) {
            Verdict::Known(truth) => Outcome::Known(truth),
            Verdict::Ask(_) => {
                let mut questions = Vec::new();
                self.root.collect_questions(&row, &mut questions);
                Outcome::Ask(questions)
            }
        }
    }

    /// Evaluates with the answers to the questions of [`Self::evaluate`] on the same row: the truth of the condition's
    /// operation (without its `not.`) for the value. No answer is Unknown.
    pub fn evaluate_with(
        &self,
        image: &Tuple,
        fallback: Option<&Tuple>,
        held: Option<&[bool]>,
        answer: &mut dyn FnMut(&BoundCondition, &str) -> Option<Truth>,
    ) -> Truth {
        self.root.decide(&Row { image, fallback, held }, answer)
    }

    /// Whether some row can lead to questions.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.root.may_ask()
    }
}

/// What is known without asking.
enum Verdict<'a> {
    Known(Truth),
    /// Postgres must be asked about this value.
    Ask(&'a str),
}

impl Node {
    pub(super) fn may_ask(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::may_ask),
            Self::Atom(atom) => atom.test.may_ask(),
        }
    }

    /// The result when no question matters to it; which question is reported does not matter here.
    fn first_pass<'a>(&'a self, row: &Row<'a, '_>) -> Verdict<'a> {
        match self {
            Self::Atom(atom) => atom.verdict(row),
            Self::And(parts) => {
                let mut result = Verdict::Known(Truth::True);
                for part in parts {
                    match (part.first_pass(row), &result) {
                        (Verdict::Known(Truth::False), _) => return Verdict::Known(Truth::False),
                        (Verdict::Known(Truth::Unknown), _) => result = Verdict::Known(Truth::Unknown),
                        (Verdict::Known(Truth::True), _) | (Verdict::Ask(_), Verdict::Known(Truth::Unknown)) => {}
                        (ask @ Verdict::Ask(_), _) => result = ask,
                    }
                }
                result
            }
            Self::Or(parts) => {
                let mut result = Verdict::Known(Truth::False);
                for part in parts {
                    match (part.first_pass(row), &result) {
                        (Verdict::Known(Truth::True), _) => return Verdict::Known(Truth::True),
                        (Verdict::Known(Truth::False), _) | (Verdict::Known(Truth::Unknown), Verdict::Ask(_)) => {}
                        (Verdict::Known(Truth::Unknown), _) => result = Verdict::Known(Truth::Unknown),
                        (ask @ Verdict::Ask(_), _) => result = ask,
                    }
                }
                result
            }
        }
    }

    /// The questions of a part whose first pass needs them.
    fn collect_questions<'a>(&'a self, row: &Row<'a, '_>, questions: &mut Vec<Question<'a>>) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    if part.may_ask() && matches!(part.first_pass(row), Verdict::Ask(_)) {
                        part.collect_questions(row, questions);
                    }
                }
            }
            Self::Atom(atom) => {
                if let Verdict::Ask(value) = atom.verdict(row) {
                    questions.push(Question { condition: &atom.condition, value });
                }
            }
        }
    }

    fn decide(&self, row: &Row<'_, '_>, answer: &mut dyn FnMut(&BoundCondition, &str) -> Option<Truth>) -> Truth {
        let mut combined = |parts: &[Self], decisive: Truth| {
            let mut result = decisive.negate();
            for part in parts {
                match part.decide(row, answer) {
                    truth if truth == decisive => return decisive,
                    Truth::Unknown => result = Truth::Unknown,
                    Truth::True | Truth::False => {}
                }
            }
            result
        };
        match self {
            Self::And(parts) => combined(parts, Truth::False),
            Self::Or(parts) => combined(parts, Truth::True),
            Self::Atom(atom) => match atom.verdict(row) {
                Verdict::Known(truth) => truth,
                Verdict::Ask(value) => {
                    let truth = answer(&atom.condition, value).unwrap_or(Truth::Unknown);
                    if atom.condition.condition.negated { truth.negate() } else { truth }
                }
            },
        }
    }
}

impl Atom {
    fn verdict<'a>(&self, row: &Row<'a, '_>) -> Verdict<'a> {
        let value = match row.value(self.column) {
            RowValue::Text(value) => value,
            RowValue::Null => return Verdict::Known(self.on_null),
            RowValue::Withheld => return Verdict::Known(self.on_withheld),
            RowValue::Missing => return Verdict::Known(Truth::Unknown),
        };
        match self.test.holds(value) {
            Holds::Yes => Verdict::Known(Truth::from(!self.inverted)),
            Holds::No => Verdict::Known(Truth::from(self.inverted)),
            Holds::Malformed => Verdict::Known(Truth::Unknown),
            Holds::Ask => std::str::from_utf8(value).map_or(Verdict::Known(Truth::Unknown), Verdict::Ask),
        }
    }
}

enum Holds {
    Yes,
    No,
    /// The value is not of the form that its type prints.
    Malformed,
    Ask,
}

impl From<bool> for Holds {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> Holds {
        match self {
            Self::Always(holds) => (*holds).into(),
            Self::AnyOf(values) => match values.as_slice() {
                [only] => (**only == *value).into(),
                sorted => sorted.binary_search_by(|candidate| (**candidate).cmp(value)).is_ok().into(),
            },
            Self::EqualToAny(operands) => {
                let mut holds = Holds::No;
                for operand in operands {
                    match operand.compare(value) {
                        Some(std::cmp::Ordering::Equal) => return Holds::Yes,
                        Some(_) => {}
                        None => holds = Holds::Malformed,
                    }
                }
                holds
            }
            Self::Jsonb(operands) => operands.iter().any(|operand| jsonb::equal(value, operand)).into(),
            Self::Ordered(operand, accepts) => match (operand.compare(value), operand) {
                (Some(ordering), _) => accepts(ordering).into(),
                // A label that was added after the relation was described.
                (None, Against::Label { .. }) => Holds::Ask,
                (None, _) => Holds::Malformed,
            },
            Self::Like(pattern) => holds_for_text(value, |value| pattern.matches(value)),
            Self::Regex(regex) => holds_for_text(value, |value| regex.is_match(value)),
            Self::Ilike(pattern) if value.is_ascii() => {
                holds_for_text(&value.to_ascii_lowercase(), |value| pattern.matches(value))
            }
            Self::AsciiRegex(regex) if value.is_ascii() => holds_for_text(value, |value| regex.is_match(value)),
            Self::Ilike(_) | Self::AsciiRegex(_) | Self::Ask => Holds::Ask,
        }
    }
}

fn holds_for_text(value: &[u8], holds: impl FnOnce(&str) -> bool) -> Holds {
    std::str::from_utf8(value).map_or(Holds::Malformed, |value| holds(value).into())
}
