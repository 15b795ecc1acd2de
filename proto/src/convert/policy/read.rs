//! From the wire to the domain.

use reactor_policy_engine::{Comparator, MemberMode, MemberSet, Predicate, RowPolicy, Scalar};

use crate::convert::known_truth;
use crate::policy::v1;

/// The policy, and whether a node of it asks Postgres, be it that the service said so or that it is not understood here.
pub(in crate::convert) fn read(policy: v1::RowPolicy) -> (RowPolicy, bool) {
    let mut sets = Vec::new();
    let mut places = Vec::new();
    for set in policy.sets {
        let set = read_set(set);
        places.push(set.as_ref().map(|set| Place { index: sets.len(), keys: set.keys.len() }));
        sets.extend(set);
    }
    let mut reader = Reader { places: &places, asks: false };
    let predicate = reader.predicate(policy.predicate);
    (RowPolicy { predicate, sets, check_key: policy.check_key }, reader.asks)
}

/// The set; `None` when its condition is not understood in full, so that nobody here can say what is in it.
pub(in crate::convert) fn read_set(set: v1::MemberSet) -> Option<MemberSet> {
    let mut reader = Reader { places: &[], asks: false };
    let condition = reader.predicate(set.condition);
    (!reader.asks).then_some(MemberSet {
        id: set.id,
        schema: set.schema,
        table: set.table,
        table_oid: set.table_oid,
        keys: set.keys,
        identity: set.identity,
        condition,
    })
}

/// Where a set is among those that are understood, and how many keys it has.
struct Place {
    index: usize,
    keys: usize,
}

struct Reader<'a> {
    /// One for each set of the message; `None` for those that are not understood.
    places: &'a [Option<Place>],
    /// Whether a node that asks was read.
    asks: bool,
}

impl Reader<'_> {
    fn predicate(&mut self, predicate: Option<impl Into<Box<v1::Predicate>>>) -> Predicate {
        let node = predicate.and_then(|predicate| predicate.into().node);
        let predicate = node.and_then(|node| self.node(node)).unwrap_or(Predicate::Ask);
        self.asks |= matches!(predicate, Predicate::Ask);
        predicate
    }

    fn predicates(&mut self, predicates: v1::Predicates) -> Vec<Predicate> {
        predicates.parts.into_iter().map(|part| self.predicate(Some(part))).collect()
    }

    /// `None` when a part of it is not understood that is no predicate of its own.
    fn node(&mut self, node: v1::predicate::Node) -> Option<Predicate> {
        use v1::predicate::Node;
        Some(match node {
            Node::Constant(truth) => Predicate::Const(known_truth(truth)?),
            Node::All(all) => Predicate::And(self.predicates(all)),
            Node::Any(any) => Predicate::Or(self.predicates(any)),
            Node::Not(negated) => Predicate::Not(Box::new(self.predicate(Some(negated)))),
            Node::Is(is) => Predicate::Is {
                value: known_truth(is.value)?,
                operand: Box::new(self.predicate(is.operand)),
                negated: is.negated,
            },
            Node::Compare(compare) => Predicate::Compare {
                operator: comparator(compare.comparator)?,
                left: self.scalar(compare.left)?,
                right: self.scalar(compare.right)?,
            },
            Node::IsNull(tested) => Predicate::IsNull(self.scalar(Some(tested))?),
            Node::Quantified(quantified) => Predicate::Quantified {
                operator: comparator(quantified.comparator)?,
                left: self.scalar(quantified.left)?,
                array: self.scalar(quantified.array)?,
                all: quantified.all,
            },
            Node::Like(like) => Predicate::Like {
                text: self.scalar(like.text)?,
                pattern: self.scalar(like.pattern)?,
                insensitive: like.insensitive,
            },
            Node::Boolean(expression) => Predicate::Bool(self.scalar(Some(expression))?),
            Node::Member(member) => self.member(member)?,
            Node::Raise(v1::Raise {}) => Predicate::Raise,
            Node::Ask(v1::Ask {}) => Predicate::Ask,
        })
    }

    fn member(&mut self, member: v1::Member) -> Option<Predicate> {
        let place = self.places.get(usize::try_from(member.set).ok()?)?.as_ref()?;
        let (set, keys) = (place.index, place.keys);
        let values = self.scalars(member.values)?;
        let mode = member_mode(member.mode)?;
        (values.len() == keys).then_some(Predicate::Member { set, values, mode })
    }

    /// `None` when a part of it is not understood: then the predicate that it is in asks.
    fn scalar(&mut self, scalar: Option<impl Into<Box<v1::Scalar>>>) -> Option<Scalar> {
        use v1::scalar::Node;
        Some(match scalar?.into().node? {
            Node::Column(column) => Scalar::Column { name: column.name, type_oid: column.type_oid },
            Node::Literal(literal) => Scalar::Literal { type_oid: literal.type_oid, text: literal.text },
            Node::Cast(cast) => Scalar::Cast { operand: self.operand(cast.operand)?, type_oid: cast.type_oid },
            Node::Concat(concat) => Scalar::Concat(self.operand(concat.left)?, self.operand(concat.right)?),
            Node::Coalesce(parts) => Scalar::Coalesce(self.scalars(parts.parts)?),
            Node::Lower(text) => Scalar::Lower(self.operand(Some(text))?),
            Node::Upper(text) => Scalar::Upper(self.operand(Some(text))?),
            Node::JsonGet(get) => {
                Scalar::JsonGet { json: self.operand(get.json)?, key: self.operand(get.key)?, as_text: get.as_text }
            }
            Node::JsonPath(get) => {
                Scalar::JsonPath { json: self.operand(get.json)?, path: self.operand(get.path)?, as_text: get.as_text }
            }
            Node::Truth(predicate) => Scalar::Truth(Box::new(self.predicate(Some(predicate)))),
        })
    }

    fn operand(&mut self, scalar: Option<Box<v1::Scalar>>) -> Option<Box<Scalar>> {
        self.scalar(scalar).map(Box::new)
    }

    fn scalars(&mut self, scalars: Vec<v1::Scalar>) -> Option<Vec<Scalar>> {
        scalars.into_iter().map(|scalar| self.scalar(Some(scalar))).collect()
    }
}

fn comparator(number: i32) -> Option<Comparator> {
    Some(match v1::Comparator::try_from(number) {
        Ok(v1::Comparator::Eq) => Comparator::Eq,
        Ok(v1::Comparator::Ne) => Comparator::Ne,
        Ok(v1::Comparator::Lt) => Comparator::Lt,
        Ok(v1::Comparator::Le) => Comparator::Le,
        Ok(v1::Comparator::Gt) => Comparator::Gt,
        Ok(v1::Comparator::Ge) => Comparator::Ge,
        Ok(v1::Comparator::Distinct) => Comparator::Distinct,
        Ok(v1::Comparator::NotDistinct) => Comparator::NotDistinct,
        Ok(v1::Comparator::Unspecified) | Err(_) => return None,
    })
}

fn member_mode(number: i32) -> Option<MemberMode> {
    match v1::MemberMode::try_from(number) {
        Ok(v1::MemberMode::Exists) => Some(MemberMode::Exists),
        Ok(v1::MemberMode::In) => Some(MemberMode::In),
        Ok(v1::MemberMode::Unspecified) | Err(_) => None,
    }
}
