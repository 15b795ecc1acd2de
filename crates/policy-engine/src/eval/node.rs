//! Truth values of predicates.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use reactor_model::filter::compare::{Against, Family, jsonb_equal};
use reactor_model::filter::{RowValue, Truth};
use smallvec::SmallVec;

use super::expr::{Expr, Text, both};
use super::like::{Like, LikePattern};
use super::{Purpose, Scope, Stop, Verdict, array};
use crate::program::{Comparator, MemberMode};

/// A predicate, ready for rows.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Const(Truth),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Is {
        operand: Box<Self>,
        value: Truth,
        negated: bool,
    },
    OneOf(OneOf),
    /// A comparison with a literal.
    Against {
        comparator: Comparator,
        operand: Expr,
        literal: Literal,
    },
    /// A comparison of two values of the row.
    Compare {
        comparator: Comparator,
        left: Expr,
        right: Expr,
        measure: Measure,
    },
    IsNull(Expr),
    Bool(Expr),
    Quantified(Quantified),
    Like(Like),
    Member {
        set: usize,
        values: Vec<Expr>,
        mode: MemberMode,
    },
    Raise,
    Ask,
}

/// Equality with any of some literals, of a type whose values are equal exactly when their texts are.
#[derive(Clone, Debug)]
pub(super) struct OneOf {
    pub(super) operand: Expr,
    /// Sorted.
    pub(super) values: SmallVec<[Box<[u8]>; 1]>,
    /// Whether a NULL is among the literals.
    pub(super) has_null: bool,
    /// Whether the result is the opposite.
    pub(super) inverted: bool,
    /// The result for NULL.
    pub(super) on_null: Truth,
}

/// `ANY` and `ALL`.
#[derive(Clone, Debug)]
pub(super) struct Quantified {
    pub(super) comparator: Comparator,
    pub(super) left: Expr,
    pub(super) array: Elements,
    pub(super) all: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Elements {
    /// Known before any row; `None` is NULL.
    Known(Vec<Option<Literal>>),
    /// Of the row.
    Of(Expr, Measure),
}

/// A literal, ready to be compared with.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Against(Against),
    Jsonb(Box<[u8]>),
}

/// How two values of the row compare.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub(super) family: Family,
    /// Of an enum.
    pub(super) labels: Vec<String>,
}

impl Literal {
    pub(super) fn new(text: &[u8], measure: &Measure) -> Option<Self> {
        if measure.family == Family::Jsonb {
            return Some(Self::Jsonb(text.into()));
        }
        Against::new(measure.family, std::str::from_utf8(text).ok()?, &measure.labels).map(Self::Against)
    }

    /// How `value` compares with the literal; of a `jsonb` only whether they are equal counts.
    fn compare(&self, value: &[u8]) -> Result<Ordering, Stop> {
        match self {
            Self::Against(against) => {
                let is_label = matches!(against, Against::Label { .. });
                against.compare(value).ok_or(if is_label { Stop::Ask } else { Stop::Raised })
            }
            Self::Jsonb(literal) => Ok(if jsonb_equal(value, literal) { Ordering::Equal } else { Ordering::Less }),
        }
    }

    /// A label may be newer than the description of its type.
    const fn may_ask(&self) -> bool {
        matches!(self, Self::Against(Against::Label { .. }))
    }
}

impl Measure {
    fn compare(&self, left: &[u8], right: &[u8]) -> Result<Ordering, Stop> {
        let stop = if self.may_ask() { Stop::Ask } else { Stop::Raised };
        self.family.compare(left, right, &self.labels).ok_or(stop)
    }

    fn may_ask(&self) -> bool {
        self.family == Family::Enum
    }
}

/// Whether the comparison holds for two values that are not NULL.
pub(super) fn accepts(comparator: Comparator, ordering: Ordering) -> bool {
    match comparator {
        Comparator::Eq | Comparator::NotDistinct => ordering.is_eq(),
        Comparator::Ne | Comparator::Distinct => ordering.is_ne(),
        Comparator::Lt => ordering.is_lt(),
        Comparator::Le => ordering.is_le(),
        Comparator::Gt => ordering.is_gt(),
        Comparator::Ge => ordering.is_ge(),
    }
}

pub(super) const fn known(holds: bool) -> Verdict {
    if holds { Verdict::True } else { Verdict::False }
}

impl Node {
    pub(super) fn judge(&self, scope: &Scope<'_>, purpose: Purpose) -> Verdict {
        match self {
            Self::Const(truth) => (*truth).into(),
            Self::And(parts) => all(parts, scope, purpose),
            Self::Or(parts) => any(parts, scope, purpose),
            Self::Not(operand) => match operand.judge(scope, Purpose::Value) {
                Verdict::True => Verdict::False,
                Verdict::False => Verdict::True,
                other => other,
            },
            Self::Is { operand, value, negated } => match operand.judge(scope, purpose.within_is(*value, *negated)) {
                stop @ (Verdict::Ask | Verdict::Missing | Verdict::Raised) => stop,
                truth => known((truth == Verdict::from(*value)) != *negated),
            },
            Self::OneOf(one_of) => one_of.verdict(scope),
            Self::Against { comparator, operand, literal } => match operand.value(scope) {
                Ok(None) => known_without(*comparator, true),
                Ok(Some(value)) => compared(*comparator, literal.compare(&value)),
                Err(stop) => stop.into(),
            },
            Self::Compare { comparator, left, right, measure } => match both(left, right, scope) {
                Ok((Some(left), Some(right))) => compared(*comparator, measure.compare(&left, &right)),
                Ok((left, right)) => known_without(*comparator, left.is_some() || right.is_some()),
                Err(stop) => stop.into(),
            },
            // Of a value that was not sent it is still known that there is one.
            Self::IsNull(Expr::Column(column)) => match scope.row.value(*column) {
                RowValue::Null => Verdict::True,
                RowValue::Text(_) | RowValue::Withheld => Verdict::False,
                RowValue::Missing => Verdict::Missing,
            },
            Self::IsNull(operand) => operand.value(scope).map_or_else(Verdict::from, |value| known(value.is_none())),
            Self::Bool(operand) => match operand.value(scope) {
                Ok(None) => Verdict::Unknown,
                Ok(Some(value)) => match &*value {
                    b"t" => Verdict::True,
                    b"f" => Verdict::False,
                    _ => Verdict::Raised,
                },
                Err(stop) => stop.into(),
            },
            Self::Quantified(quantified) => quantified.verdict(scope),
            Self::Like(like) => like.verdict(scope),
            Self::Member { set, values, mode } => member(*set, values, *mode, scope),
            Self::Raise => Verdict::Raised,
            Self::Ask => Verdict::Ask,
        }
    }

    pub(super) fn may_ask(&self) -> bool {
        match self {
            Self::Const(_) | Self::Raise => false,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::may_ask),
            Self::Not(operand) | Self::Is { operand, .. } => operand.may_ask(),
            Self::OneOf(OneOf { operand, .. }) | Self::IsNull(operand) | Self::Bool(operand) => operand.may_ask(),
            Self::Against { operand, literal, .. } => literal.may_ask() || operand.may_ask(),
            Self::Compare { left, right, measure, .. } => measure.may_ask() || left.may_ask() || right.may_ask(),
            Self::Quantified(Quantified { left, array, .. }) => {
                let array_may_ask = match array {
                    Elements::Known(elements) => elements.iter().flatten().any(Literal::may_ask),
                    Elements::Of(array, measure) => measure.may_ask() || array.may_ask(),
                };
                array_may_ask || left.may_ask()
            }
            Self::Like(Like { text, pattern, case }) => {
                case.is_some() || matches!(pattern, LikePattern::Of(_)) || text.may_ask()
            }
            // With several keys, NULLs may be undecided; an error in a value depends on whether there are rows.
            Self::Member { values, mode, .. } => {
                (*mode == MemberMode::In && values.len() > 1)
                    || values.iter().any(|value| value.may_ask() || value.may_raise())
            }
            Self::Ask => true,
        }
    }

    /// Whether some row can lead to [`Verdict::Raised`].
    pub(super) fn may_raise(&self) -> bool {
        match self {
            Self::Const(_) | Self::Ask | Self::Member { .. } => false,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::may_raise),
            Self::Not(operand) | Self::Is { operand, .. } => operand.may_raise(),
            Self::Raise => true,
            _ => self.operands().into_iter().any(Expr::may_raise),
        }
    }

    /// Without questions whose answers do not matter, where it only matters whether it is true.
    pub(super) fn for_filter(self) -> Self {
        match self {
            Self::And(parts) => {
                let parts: Vec<Self> = parts.into_iter().map(Self::for_filter).collect();
                let never = |part: &&Self| matches!(part, Self::Const(Truth::False | Truth::Unknown) | Self::Raise);
                match parts.iter().find(never).cloned() {
                    Some(never) => never,
                    None => Self::And(parts),
                }
            }
            Self::Or(mut parts) => {
                // Nothing comes after the last part that it could keep from being seen.
                if let Some(last) = parts.pop() {
                    parts.push(last.for_filter());
                }
                Self::Or(parts)
            }
            Self::Is { operand, value: Truth::True, negated: false } => {
                Self::Is { operand: Box::new(operand.for_filter()), value: Truth::True, negated: false }
            }
            node => node,
        }
    }

    /// Whether Postgres has a truth value for every row, and no error: what is asked counts as well.
    pub(super) fn never_raises(&self) -> bool {
        match self {
            Self::Const(_) => true,
            Self::Raise | Self::Ask => false,
            Self::And(parts) | Self::Or(parts) => parts.iter().all(Self::never_raises),
            Self::Not(operand) | Self::Is { operand, .. } => operand.never_raises(),
            // A pattern may end within an escape.
            Self::Like(Like { pattern: LikePattern::Of(_), .. }) => false,
            _ => self.operands().into_iter().all(Expr::never_raises),
        }
    }

    pub(super) fn collect_columns(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_columns(columns)),
            Self::Not(operand) | Self::Is { operand, .. } => operand.collect_columns(columns),
            _ => self.operands().into_iter().for_each(|operand| operand.collect_columns(columns)),
        }
    }

    fn operands(&self) -> Vec<&Expr> {
        match self {
            Self::Const(_) | Self::And(_) | Self::Or(_) | Self::Not(_) | Self::Is { .. } | Self::Raise | Self::Ask => {
                Vec::new()
            }
            Self::OneOf(OneOf { operand, .. })
            | Self::IsNull(operand)
            | Self::Bool(operand)
            | Self::Against { operand, .. } => vec![operand],
            Self::Compare { left, right, .. } => vec![left, right],
            Self::Quantified(Quantified { left, array: Elements::Known(_), .. }) => vec![left],
            Self::Quantified(Quantified { left, array: Elements::Of(array, _), .. }) => vec![left, array],
            Self::Like(Like { text, pattern: LikePattern::Known(_), .. }) => vec![text],
            Self::Like(Like { text, pattern: LikePattern::Of(pattern), .. }) => vec![text, pattern],
            Self::Member { values, .. } => values.iter().collect(),
        }
    }
}

/// The result of a comparison with NULL on one side or, `!is_one`, on both.
const fn known_without(comparator: Comparator, is_one: bool) -> Verdict {
    match comparator {
        Comparator::Distinct => known(is_one),
        Comparator::NotDistinct => known(!is_one),
        Comparator::Eq | Comparator::Ne | Comparator::Lt | Comparator::Le | Comparator::Gt | Comparator::Ge => {
            Verdict::Unknown
        }
    }
}

fn compared(comparator: Comparator, ordering: Result<Ordering, Stop>) -> Verdict {
    ordering.map_or_else(Verdict::from, |ordering| known(accepts(comparator, ordering)))
}

/// What parts that decided nothing have left behind.
#[derive(Default)]
struct Seen {
    unknown: bool,
    ask: bool,
    missing: bool,
    /// Whether what is asked may raise.
    raising_ask: bool,
    /// Whether what is missing may make its part raise.
    raising_missing: bool,
}

impl Seen {
    fn note(&mut self, verdict: Verdict, part: &Node) {
        match verdict {
            Verdict::Unknown => self.unknown = true,
            Verdict::Ask => {
                self.ask = true;
                self.raising_ask |= !part.never_raises();
            }
            Verdict::Missing => {
                self.missing = true;
                self.raising_missing |= !part.never_raises();
            }
            Verdict::True | Verdict::False | Verdict::Raised => {}
        }
    }

    /// What is open: it may be anything.
    const fn open(&self) -> Option<Verdict> {
        match self {
            Self { ask: true, .. } => Some(Verdict::Ask),
            Self { missing: true, .. } => Some(Verdict::Missing),
            _ => None,
        }
    }

    /// What is open and may raise: then no part after it is evaluated.
    const fn that_may_raise(&self) -> Option<Verdict> {
        match self {
            Self { raising_ask: true, .. } => Some(Verdict::Ask),
            Self { raising_missing: true, .. } => Some(Verdict::Missing),
            _ => None,
        }
    }

    fn verdict(&self, otherwise: Verdict) -> Verdict {
        self.open().unwrap_or(if self.unknown { Verdict::Unknown } else { otherwise })
    }
}

/// `AND`. A part that is false ends it, and so does one that raises; what was left open before may have ended it otherwise.
fn all(parts: &[Node], scope: &Scope<'_>, purpose: Purpose) -> Verdict {
    let mut seen = Seen::default();
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.iter().enumerate() {
        // A part that is false keeps those after it from raising, one that is unknown does not.
        let wanted = if purpose == Purpose::Alternative && index < last { Purpose::Value } else { purpose };
        match part.judge(scope, wanted) {
            // Whatever else there is, the row is not seen.
            end @ (Verdict::False | Verdict::Raised) if purpose == Purpose::Filter => return end,
            Verdict::False => return seen.that_may_raise().unwrap_or(Verdict::False),
            Verdict::Raised => return seen.open().unwrap_or(Verdict::Raised),
            verdict => seen.note(verdict, part),
        }
    }
    let is_not_true = seen.unknown
        && match purpose {
            Purpose::Filter => true,
            Purpose::Alternative => seen.that_may_raise().is_none(),
            Purpose::Value => false,
        };
    if is_not_true { Verdict::Unknown } else { seen.verdict(Verdict::True) }
}

/// `OR`. A part that is true ends it, and so does one that raises; what was left open before may have ended it otherwise.
fn any(parts: &[Node], scope: &Scope<'_>, purpose: Purpose) -> Verdict {
    let mut seen = Seen::default();
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.iter().enumerate() {
        let wanted = if purpose == Purpose::Filter && index < last { Purpose::Alternative } else { purpose };
        match part.judge(scope, wanted) {
            Verdict::True => return seen.that_may_raise().unwrap_or(Verdict::True),
            Verdict::Raised => return seen.open().unwrap_or(Verdict::Raised),
            verdict => seen.note(verdict, part),
        }
    }
    seen.verdict(Verdict::False)
}

impl OneOf {
    fn verdict(&self, scope: &Scope<'_>) -> Verdict {
        let value = match self.operand.value(scope) {
            Ok(value) => value,
            Err(stop) => return stop.into(),
        };
        if self.values.is_empty() && !self.has_null {
            return known(self.inverted);
        }
        let Some(value) = value else { return self.on_null.into() };
        let found = match self.values.as_slice() {
            [only] => **only == *value,
            sorted => sorted.binary_search_by(|candidate| (**candidate).cmp(&*value)).is_ok(),
        };
        if !found && self.has_null { Verdict::Unknown } else { known(found != self.inverted) }
    }
}

impl Quantified {
    fn verdict(&self, scope: &Scope<'_>) -> Verdict {
        match &self.array {
            Elements::Known(literals) => match self.left.value(scope) {
                Ok(left) => {
                    let element =
                        |literal: &Option<Literal>, left: &[u8]| literal.as_ref().map(|literal| literal.compare(left));
                    self.over(literals, left, element)
                }
                Err(stop) => stop.into(),
            },
            Elements::Of(array, measure) => match both(&self.left, array, scope) {
                Ok((_, None)) => Verdict::Unknown,
                Ok((left, Some(text))) => match array::elements(&text) {
                    Some(elements) => self.over(&elements, left, |element, left| {
                        element.as_deref().map(|element| measure.compare(left, element))
                    }),
                    None => Verdict::Raised,
                },
                Err(stop) => stop.into(),
            },
        }
    }

    fn over<E>(
        &self,
        elements: &[E],
        left: Option<Text<'_>>,
        compare: impl Fn(&E, &[u8]) -> Option<Result<Ordering, Stop>>,
    ) -> Verdict {
        if elements.is_empty() {
            return known(self.all);
        }
        let Some(left) = left else { return Verdict::Unknown };
        let decisive = known(!self.all);
        let mut seen = Seen::default();
        for element in elements {
            let verdict =
                compare(element, &left).map_or(Verdict::Unknown, |ordering| compared(self.comparator, ordering));
            match verdict {
                Verdict::Raised => return Verdict::Raised,
                verdict if verdict == decisive => return decisive,
                Verdict::Unknown => seen.unknown = true,
                // Comparisons do not raise.
                Verdict::Ask => seen.ask = true,
                _ => {}
            }
        }
        seen.verdict(known(self.all))
    }
}

fn member(set: usize, values: &[Expr], mode: MemberMode, scope: &Scope<'_>) -> Verdict {
    if let [value] = values {
        return match value.value(scope) {
            Ok(value) => looked_up(set, &[value.as_deref()], mode, scope),
            Err(stop) => stopped(stop),
        };
    }
    let mut texts = Vec::with_capacity(values.len());
    let mut stop: Option<Stop> = None;
    for value in values {
        match value.value(scope) {
            Ok(text) => texts.push(text),
            Err(other) => stop = Some(stop.map_or(other, |stop| stop.or(other))),
        }
    }
    match stop {
        Some(stop) => stopped(stop),
        None => looked_up(set, &texts.iter().map(Option::as_deref).collect::<Vec<_>>(), mode, scope),
    }
}

/// Postgres evaluates the values only when there are rows to compare them with.
const fn stopped(stop: Stop) -> Verdict {
    match stop {
        Stop::Raised | Stop::Ask => Verdict::Ask,
        Stop::Missing => Verdict::Missing,
    }
}

fn looked_up(set: usize, values: &[Option<&[u8]>], mode: MemberMode, scope: &Scope<'_>) -> Verdict {
    let lookup = scope.sets.lookup(set, values);
    let has_null = values.contains(&None);
    match mode {
        MemberMode::Exists if values.is_empty() => known(lookup.any_row),
        MemberMode::Exists => known(lookup.found && !has_null),
        MemberMode::In if !lookup.any_row => Verdict::False,
        MemberMode::In if lookup.found && !has_null => Verdict::True,
        MemberMode::In if !has_null && !lookup.any_null_key => Verdict::False,
        MemberMode::In if values.len() == 1 => Verdict::Unknown,
        // A row may differ in another key than the one that is NULL.
        MemberMode::In => Verdict::Ask,
    }
}
