//! Which rows of its table a set has, and how they are told apart.

use std::sync::Arc;

use reactor_model::filter::{IndexKey, RowImage, RowValue};
use reactor_model::{Change, Relation, ReplicaIdentity};
use reactor_policy_engine::{CompiledPredicate, Verdict};

use super::Broken;
use super::rows::{Keys, NamedSets, joined};
use crate::hub::key::SharedSet;

/// The values of a row's identity as one text.
pub(super) type Identity = Arc<[u8]>;

/// A set's condition and columns for one relation version.
#[derive(Debug)]
pub(super) struct Compiled {
    condition: CompiledPredicate,
    keys: Vec<usize>,
    identity: Vec<usize>,
    pub(super) index: Option<Vec<IndexKey>>,
    /// By column: whether a key-only old image holds it.
    in_key: Vec<bool>,
    /// Whether a row can be there twice.
    pub(super) may_repeat: bool,
}

impl Compiled {
    pub(super) fn new(set: &SharedSet, relation: &Relation) -> Option<Self> {
        if set.table_oid != relation.table_oid || relation.identity == ReplicaIdentity::Nothing {
            return None;
        }
        let indices =
            |names: &[String]| names.iter().map(|name| relation.column_index(name)).collect::<Option<Vec<_>>>();
        let (keys, identity) = (indices(&set.keys)?, indices(&set.identity)?);
        let in_key: Vec<bool> = relation.columns.iter().map(|column| column.identity_key).collect();
        if identity.is_empty() || identity.iter().any(|index| in_key.get(*index) != Some(&true)) {
            return None;
        }
        let condition = set.condition.compile(relation).ok().filter(|condition| !condition.may_ask())?;
        let has_key = relation.columns.iter().any(|column| column.primary_key);
        let may_repeat = relation.identity == ReplicaIdentity::Full && !has_key;
        Some(Self { index: condition.index_keys(), condition, keys, identity, in_key, may_repeat })
    }

    /// NULLs are values of an identity, too: with FULL it has every column.
    pub(super) fn identity(&self, row: &RowImage<'_>) -> Result<Identity, Broken> {
        let mut out = Vec::new();
        for column in &self.identity {
            push_identity(&mut out, known(row, *column)?);
        }
        Ok(out.into())
    }

    pub(super) fn keys(&self, row: &RowImage<'_>) -> Result<Keys, Broken> {
        let values = self.keys.iter().map(|column| known(row, *column)).collect::<Result<Vec<_>, _>>()?;
        Ok(joined(values, self.keys.len()).map(Into::into))
    }

    /// Whether a new row is in the set.
    pub(super) fn has(&self, row: &RowImage<'_>) -> Result<bool, Broken> {
        match self.condition.evaluate(row, &NamedSets(&[])) {
            Verdict::True => Ok(true),
            Verdict::False | Verdict::Unknown => Ok(false),
            Verdict::Missing => Err(Broken::Value),
            Verdict::Ask | Verdict::Raised => Err(Broken::Condition),
        }
    }

    /// The row before a change, as far as it was sent.
    pub(super) fn before<'a>(&'a self, change: &'a Change) -> Option<RowImage<'a>> {
        RowImage::before(change, &self.in_key)
    }
}

/// A value, where it is known; `None` is NULL.
fn known<'a>(row: &RowImage<'a>, column: usize) -> Result<Option<&'a [u8]>, Broken> {
    match row.value(column) {
        RowValue::Text(text) => Ok(Some(text)),
        RowValue::Null => Ok(None),
        RowValue::Missing | RowValue::Withheld => Err(Broken::Value),
    }
}

pub(super) fn push_identity(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(text) => {
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
            out.extend_from_slice(text);
        }
        None => out.extend_from_slice(&u64::MAX.to_be_bytes()),
    }
}
