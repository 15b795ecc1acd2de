//! Predicates of all forms, well typed.

use anyhow::Result;
use reactor_model::Relation;
use reactor_model::filter::Truth;
use reactor_policy_engine::{Comparator, MemberMode, Predicate, Scalar};

use super::kinds::{Class, INDEXES, KEYS, KINDS, Kind, PATHS, PATTERNS, targets};
use super::random::Random;

/// The types of each set's keys.
pub(crate) const SETS: &[&[&str]] = &[&["int4"], &["int4"], &["int4"], &["text"], &["int4", "text"]];

const COMPARATORS: [&Comparator; 8] = [
    &Comparator::Eq,
    &Comparator::Ne,
    &Comparator::Lt,
    &Comparator::Le,
    &Comparator::Gt,
    &Comparator::Ge,
    &Comparator::Distinct,
    &Comparator::NotDistinct,
];

/// Makes predicates over the columns of a table.
pub(crate) struct Generator<'a> {
    pub(crate) random: Random<'a>,
    pub(crate) relation: &'a Relation,
    /// Values as they are printed, of each column.
    pub(crate) rows: &'a [Vec<Option<String>>],
}

impl Generator<'_> {
    pub(crate) fn predicate(&mut self, depth: usize) -> Predicate {
        let depth_below = depth.saturating_sub(1);
        match self.random.below(if depth == 0 { 14 } else { 20 }) {
            0..=5 => self.comparison(depth),
            6 => {
                let kind = self.any_kind();
                Predicate::IsNull(self.scalar(kind, depth))
            }
            7 | 8 => self.quantified(depth),
            9 | 10 => self.like(depth),
            11 => Predicate::Bool(self.scalar(kind_of("bool"), depth)),
            12 | 13 => self.member(depth),
            14 => Predicate::Not(Box::new(self.predicate(depth_below))),
            15 => {
                let value = *self.random.pick(&[&Truth::True, &Truth::False, &Truth::Unknown]);
                let negated = self.random.one_in(2);
                Predicate::Is { operand: Box::new(self.predicate(depth_below)), value, negated }
            }
            16 | 17 => Predicate::And(self.parts(depth_below)),
            18 => Predicate::Or(self.parts(depth_below)),
            _ => Predicate::Const(*self.random.pick(&[&Truth::True, &Truth::False, &Truth::Unknown])),
        }
    }

    /// `column <operator> literal` of this type.
    pub(crate) fn with_literal(&mut self, kind: &'static Kind, operator: Comparator) -> Predicate {
        Predicate::Compare { operator, left: self.column(kind), right: self.literal(kind) }
    }

    /// `column::type = literal`.
    pub(crate) fn with_cast(&mut self, from: &'static Kind, to: &'static Kind) -> Predicate {
        let left = Scalar::Cast { operand: Box::new(self.column(from)), type_oid: self.oid(to) };
        Predicate::Compare { operator: Comparator::Eq, left, right: self.literal(to) }
    }

    fn parts(&mut self, depth: usize) -> Vec<Predicate> {
        (0..self.random.below(4)).map(|_| self.predicate(depth)).collect()
    }

    fn comparison(&mut self, depth: usize) -> Predicate {
        let kind = self.any_kind();
        let operator = *self.random.pick(&COMPARATORS);
        let other = self.similar(kind);
        let (left, right) = (self.scalar(kind, depth), self.scalar(other, depth));
        Predicate::Compare { operator, left, right }
    }

    fn quantified(&mut self, depth: usize) -> Predicate {
        let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.array.is_some()).collect();
        let kind = self.random.pick(&kinds);
        let array = self.scalar(kind_of(kind.array.expect("it has one")), depth);
        let left = self.similar(kind);
        let operator = *self.random.pick(&COMPARATORS[..6]);
        Predicate::Quantified { operator, left: self.scalar(left, depth), array, all: self.random.one_in(2) }
    }

    fn like(&mut self, depth: usize) -> Predicate {
        let text = self.random.pick(&["text", "varchar", "name", "bpchar"]);
        let text = self.scalar(kind_of(text), if text == "bpchar" { 0 } else { depth });
        let pattern = if self.random.one_in(4) {
            self.scalar(kind_of("text"), depth)
        } else {
            self.literal_of(kind_of("text"), PATTERNS)
        };
        Predicate::Like { text, pattern, insensitive: self.random.one_in(2) }
    }

    fn member(&mut self, depth: usize) -> Predicate {
        let set = self.random.below(SETS.len());
        let values = SETS[set].iter().map(|kind| self.scalar(kind_of(kind), depth)).collect();
        let mode = *self.random.pick(&[&MemberMode::Exists, &MemberMode::In]);
        Predicate::Member { set, values, mode }
    }

    /// An expression of this type.
    fn scalar(&mut self, kind: &'static Kind, depth: usize) -> Scalar {
        let depth_below = depth.saturating_sub(1);
        match self.random.below(if depth == 0 { 10 } else { 22 }) {
            0..=6 => self.column(kind),
            7..=9 => self.literal(kind),
            10 => Scalar::Coalesce((0..=self.random.below(3)).map(|_| self.scalar(kind, depth_below)).collect()),
            11..=14 => match (kind.sql, self.random.below(4)) {
                ("text", 0) => {
                    let (left, right) = (self.scalar(kind, depth_below), self.scalar(kind, depth_below));
                    Scalar::Concat(Box::new(left), Box::new(right))
                }
                ("text", 1) => Scalar::Lower(Box::new(self.scalar(kind, depth_below))),
                ("text", 2) => Scalar::Upper(Box::new(self.scalar(kind, depth_below))),
                ("text", _) => self.json(true, depth_below),
                ("jsonb", _) => self.json(false, depth_below),
                ("bool", _) => Scalar::Truth(Box::new(self.predicate(depth_below))),
                _ => self.cast(kind, depth_below),
            },
            _ => self.cast(kind, depth_below),
        }
    }

    fn cast(&mut self, kind: &'static Kind, depth: usize) -> Scalar {
        let sources: Vec<_> = KINDS.iter().filter(|from| targets(from).contains(&kind.sql)).collect();
        if sources.is_empty() {
            return self.column(kind);
        }
        // Texts that are of the form are rare among all texts.
        let from = self.random.pick(&sources);
        let operand = if from.class == Class::Text && self.random.one_in(2) {
            self.cast_text(from, kind)
        } else {
            self.scalar(from, depth)
        };
        Scalar::Cast { operand: Box::new(operand), type_oid: self.oid(kind) }
    }

    /// A value of this type as a text.
    fn cast_text(&mut self, text: &'static Kind, kind: &'static Kind) -> Scalar {
        self.literal_of(text, kind.values)
    }

    fn json(&mut self, as_text: bool, depth: usize) -> Scalar {
        let json = Box::new(self.scalar(kind_of("jsonb"), depth));
        match self.random.below(4) {
            0 => {
                let path = if self.random.one_in(4) {
                    self.column(kind_of("text[]"))
                } else {
                    self.literal_of(kind_of("text[]"), PATHS)
                };
                Scalar::JsonPath { json, path: Box::new(path), as_text }
            }
            1 => {
                let key = if self.random.one_in(4) {
                    self.scalar(kind_of("int4"), depth)
                } else {
                    self.literal_of(kind_of("int4"), INDEXES)
                };
                Scalar::JsonGet { json, key: Box::new(key), as_text }
            }
            _ => {
                let key = if self.random.one_in(4) {
                    self.scalar(kind_of("text"), depth)
                } else {
                    self.literal_of(kind_of("text"), KEYS)
                };
                Scalar::JsonGet { json, key: Box::new(key), as_text }
            }
        }
    }

    fn column(&self, kind: &Kind) -> Scalar {
        Scalar::Column { name: format!("{}_", kind.sql), type_oid: self.oid(kind) }
    }

    /// A value that some row has, or NULL.
    fn literal(&mut self, kind: &Kind) -> Scalar {
        let column = self.index(kind);
        let row = self.random.below(self.rows.len());
        Scalar::Literal { type_oid: self.oid(kind), text: self.rows[row][column].clone() }
    }

    fn literal_of(&mut self, kind: &Kind, texts: &[&str]) -> Scalar {
        Scalar::Literal { type_oid: self.oid(kind), text: Some(self.random.pick(texts).to_owned()) }
    }

    fn any_kind(&mut self) -> &'static Kind {
        &KINDS[self.random.below(KINDS.len())]
    }

    /// A type that this one compares with.
    fn similar(&mut self, kind: &'static Kind) -> &'static Kind {
        match kind.class {
            Class::Text | Class::Int => {
                let kinds: Vec<_> = KINDS.iter().filter(|other| other.class == kind.class).collect();
                self.random.pick(&kinds)
            }
            Class::Array | Class::Other => kind,
        }
    }

    fn index(&self, kind: &Kind) -> usize {
        self.relation.column_index(&format!("{}_", kind.sql)).expect("a column of each kind")
    }

    fn oid(&self, kind: &Kind) -> u32 {
        self.relation.columns[self.index(kind)].type_oid
    }
}

pub(crate) fn kind_of(sql: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.sql == sql).expect("a kind")
}

/// Visits the predicate and all within it.
pub(crate) fn for_each_part(of: &Predicate, visit: &mut dyn FnMut(&Predicate) -> Result<()>) -> Result<()> {
    visit(of)?;
    match of {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().try_for_each(|part| for_each_part(part, visit)),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => for_each_part(operand, visit),
        Predicate::Compare { left, right, .. } => for_each_part_of([left, right], visit),
        Predicate::Quantified { left, array, .. } => for_each_part_of([left, array], visit),
        Predicate::Like { text, pattern, .. } => for_each_part_of([text, pattern], visit),
        Predicate::IsNull(operand) | Predicate::Bool(operand) => for_each_part_of([operand], visit),
        Predicate::Member { values, .. } => for_each_part_of(values, visit),
        Predicate::Const(_) | Predicate::Raise | Predicate::Ask => Ok(()),
    }
}

fn for_each_part_of<'a>(
    scalars: impl IntoIterator<Item = &'a Scalar>,
    visit: &mut dyn FnMut(&Predicate) -> Result<()>,
) -> Result<()> {
    scalars.into_iter().try_for_each(|scalar| match scalar {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => Ok(()),
        Scalar::Cast { operand, .. } | Scalar::Lower(operand) | Scalar::Upper(operand) => {
            for_each_part_of([&**operand], visit)
        }
        Scalar::Concat(left, right)
        | Scalar::JsonGet { json: left, key: right, .. }
        | Scalar::JsonPath { json: left, path: right, .. } => for_each_part_of([&**left, &**right], visit),
        Scalar::Coalesce(parts) => for_each_part_of(parts, visit),
        Scalar::Truth(predicate) => for_each_part(predicate, visit),
    })
}
