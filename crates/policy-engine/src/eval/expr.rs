//! Values of expressions: NULL, or the text that the expression's type prints.

use std::borrow::Cow;
use std::collections::BTreeSet;

use reactor_model::filter::RowValue;

use super::cast::Conversion;
use super::node::Node;
use super::{Purpose, Scope, Stop, Verdict, array, json};

/// A value in text form.
pub(super) type Text<'a> = Cow<'a, [u8]>;

/// A value, NULL as `None`.
pub(super) type Value<'a> = Result<Option<Text<'a>>, Stop>;

/// An expression, ready for rows.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Null,
    Literal(Box<[u8]>),
    /// A column, by its index.
    Column(usize),
    Convert(Box<Self>, Conversion),
    Concat(Box<Self>, Box<Self>),
    Coalesce(Vec<Self>),
    /// `lower` or `upper`.
    Case {
        text: Box<Self>,
        case: Case,
    },
    JsonGet {
        json: Box<Self>,
        key: JsonKey,
        as_text: bool,
    },
    JsonPath {
        json: Box<Self>,
        path: Box<Self>,
        as_text: bool,
    },
    Truth(Box<Node>),
    Raise,
    Ask,
}

/// A change of case, known for ASCII alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) upper: bool,
    /// Whether no language has another partner for I.
    pub(super) is_ascii: bool,
}

/// What `->` takes.
#[derive(Clone, Debug)]
pub(super) enum JsonKey {
    /// A name that is known, as it is printed.
    Name(Box<[u8]>),
    /// A name.
    NameOf(Box<Expr>),
    /// An index.
    IndexOf(Box<Expr>),
}

impl Case {
    /// The text in this case.
    pub(super) fn apply(self, text: &[u8]) -> Result<Vec<u8>, Stop> {
        let differs = if self.upper { b'i' } else { b'I' };
        if !text.is_ascii() || (!self.is_ascii && text.contains(&differs)) {
            return Err(Stop::Ask);
        }
        Ok(if self.upper { text.to_ascii_uppercase() } else { text.to_ascii_lowercase() })
    }
}

impl Expr {
    pub(super) fn value<'a>(&'a self, scope: &Scope<'a>) -> Value<'a> {
        match self {
            Self::Null => Ok(None),
            Self::Literal(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Column(column) => match scope.row.value(*column) {
                RowValue::Text(text) => Ok(Some(Cow::Borrowed(text))),
                RowValue::Null => Ok(None),
                RowValue::Withheld | RowValue::Missing => Err(Stop::Missing),
            },
            Self::Convert(operand, conversion) => operand.value(scope)?.map(|text| conversion.apply(text)).transpose(),
            Self::Concat(left, right) => match both(left, right, scope)? {
                (Some(left), Some(right)) => {
                    let mut text = left.into_owned();
                    text.extend_from_slice(&right);
                    Ok(Some(Cow::Owned(text)))
                }
                _ => Ok(None),
            },
            Self::Coalesce(parts) => {
                for part in parts {
                    if let Some(text) = part.value(scope)? {
                        return Ok(Some(text));
                    }
                }
                Ok(None)
            }
            Self::Case { text, case } => match text.value(scope)? {
                Some(text) => case.apply(&text).map(|text| Some(Cow::Owned(text))),
                None => Ok(None),
            },
            Self::JsonGet { json, key, as_text } => get(json, key, *as_text, scope),
            Self::JsonPath { json, path, as_text } => match both(json, path, scope)? {
                (Some(json), Some(path)) => follow(json, &path, *as_text),
                _ => Ok(None),
            },
            Self::Truth(node) => match node.judge(scope, Purpose::Value) {
                Verdict::True => Ok(Some(Cow::Borrowed(b"t"))),
                Verdict::False => Ok(Some(Cow::Borrowed(b"f"))),
                Verdict::Unknown => Ok(None),
                Verdict::Ask => Err(Stop::Ask),
                Verdict::Missing => Err(Stop::Missing),
                Verdict::Raised => Err(Stop::Raised),
            },
            Self::Raise => Err(Stop::Raised),
            Self::Ask => Err(Stop::Ask),
        }
    }

    /// Whether the value is known before any row.
    pub(super) const fn is_constant(&self) -> bool {
        matches!(self, Self::Null | Self::Literal(_) | Self::Raise)
    }

    /// Whether the operands are.
    pub(super) fn has_constant_operands(&self) -> bool {
        self.operands().into_iter().all(Self::is_constant)
    }

    pub(super) fn may_ask(&self) -> bool {
        match self {
            Self::Convert(operand, conversion) => conversion.may_ask || operand.may_ask(),
            Self::Truth(node) => node.may_ask(),
            Self::Case { .. } | Self::Ask => true,
            _ => self.operands().into_iter().any(Self::may_ask),
        }
    }

    /// Whether Postgres has a value or NULL for every row, and no error.
    pub(super) fn never_raises(&self) -> bool {
        match self {
            Self::Convert(operand, conversion) => !conversion.may_raise && operand.never_raises(),
            Self::Truth(node) => node.never_raises(),
            Self::Raise | Self::Ask => false,
            _ => self.operands().into_iter().all(Self::never_raises),
        }
    }

    /// Whether some row can lead to [`Stop::Raised`].
    pub(super) fn may_raise(&self) -> bool {
        match self {
            Self::Convert(operand, conversion) => conversion.may_raise || operand.may_raise(),
            Self::Truth(node) => node.may_raise(),
            Self::Raise => true,
            _ => self.operands().into_iter().any(Self::may_raise),
        }
    }

    pub(super) fn collect_columns(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::Column(column) => {
                columns.insert(*column);
            }
            Self::Truth(node) => node.collect_columns(columns),
            _ => self.operands().into_iter().for_each(|operand| operand.collect_columns(columns)),
        }
    }

    fn operands(&self) -> Vec<&Self> {
        match self {
            Self::Null | Self::Literal(_) | Self::Column(_) | Self::Truth(_) | Self::Raise | Self::Ask => Vec::new(),
            Self::Convert(operand, _) | Self::Case { text: operand, .. } => vec![operand],
            Self::Concat(left, right) | Self::JsonPath { json: left, path: right, .. } => vec![left, right],
            Self::Coalesce(parts) => parts.iter().collect(),
            Self::JsonGet { json, key, .. } => match key {
                JsonKey::Name(_) => vec![json],
                JsonKey::NameOf(key) | JsonKey::IndexOf(key) => vec![json, key],
            },
        }
    }
}

/// The values of two operands, which are both evaluated.
pub(super) fn both<'a>(
    left: &'a Expr,
    right: &'a Expr,
    scope: &Scope<'a>,
) -> Result<(Option<Text<'a>>, Option<Text<'a>>), Stop> {
    match (left.value(scope), right.value(scope)) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(left), Err(right)) => Err(left.or(right)),
        (Err(stop), Ok(_)) | (Ok(_), Err(stop)) => Err(stop),
    }
}

fn get<'a>(json: &'a Expr, key: &'a JsonKey, as_text: bool, scope: &Scope<'a>) -> Value<'a> {
    let (json, key, by_index) = match key {
        JsonKey::Name(name) => match json.value(scope)? {
            Some(json) => return part_of(json, as_text, |json| json::field(json, name)),
            None => return Ok(None),
        },
        JsonKey::NameOf(key) => (json, key, false),
        JsonKey::IndexOf(key) => (json, key, true),
    };
    let (Some(json), Some(key)) = both(json, key, scope)? else { return Ok(None) };
    let key = std::str::from_utf8(&key).map_err(|_| Stop::Raised)?;
    if by_index {
        let index = key.parse().map_err(|_| Stop::Raised)?;
        part_of(json, as_text, |json| json::element_or_scalar(json, index))
    } else {
        part_of(json, as_text, |json| json::field(json, &json::encoded(key)))
    }
}

/// Steps that are NULL lead to NULL.
fn follow<'a>(json: Text<'a>, path: &[u8], as_text: bool) -> Value<'a> {
    let steps = array::elements(path).ok_or(Stop::Raised)?;
    match steps.into_iter().collect::<Option<Vec<_>>>() {
        Some(steps) => part_of(json, as_text, |json| json::at_path(json, &steps)),
        None => Ok(None),
    }
}

/// A part of a `jsonb`, as itself or as a text.
fn part_of(json: Text<'_>, as_text: bool, find: impl Fn(&[u8]) -> Option<Option<&[u8]>>) -> Value<'_> {
    let found = |json: &[u8]| {
        let Some(part) = find(json).ok_or(Stop::Raised)? else { return Ok(None) };
        if !as_text {
            return Ok(Some(Cow::Owned(part.into())));
        }
        Ok(json::as_text(part).ok_or(Stop::Raised)?.map(|text| Cow::Owned(text.into_owned())))
    };
    found(&json)
}
