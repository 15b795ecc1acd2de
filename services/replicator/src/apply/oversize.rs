//! A change that is too large for the bus: its largest values are left out until it fits.

use reactor_model::Relation;
use reactor_model::envelope::OldTuple;
use reactor_model::tuple::{Datum, Tuple};

/// A change with values left out, in encoded form.
#[derive(Debug)]
pub(super) struct Shrunk {
    pub(super) old: Option<Tuple>,
    pub(super) new: Option<Tuple>,
}

/// One value that could be left out.
struct Candidate {
    is_key: bool,
    bytes: usize,
    in_new: bool,
    column: usize,
}

/// Leaves out the largest values, those of key columns last, until both images take at most `budget` bytes.
///
/// `None` when even that is not enough, or when the images are not tuples.
pub(super) fn shrink(relation: &Relation, old: OldTuple<'_>, new: Option<&[u8]>, budget: usize) -> Option<Shrunk> {
    let old = match old {
        OldTuple::None => None,
        OldTuple::Key(bytes) | OldTuple::Full(bytes) => Some(parse(bytes)?),
    };
    let new = match new {
        None => None,
        Some(bytes) => Some(parse(bytes)?),
    };
    let mut candidates = Vec::new();
    for (in_new, tuple) in [(false, &old), (true, &new)] {
        candidates.extend(tuple.iter().flat_map(|tuple| of_tuple(relation, tuple, in_new)));
    }
    candidates.sort_by_key(|candidate| (candidate.is_key, std::cmp::Reverse(candidate.bytes)));

    let size = |tuple: &Option<Tuple>| tuple.as_ref().map_or(0, |tuple| tuple.as_bytes().len());
    let mut left = size(&old) + size(&new);
    let mut omitted = [vec![false; columns(old.as_ref())], vec![false; columns(new.as_ref())]];
    for candidate in candidates {
        if left <= budget {
            break;
        }
        if let Some(flag) = omitted[usize::from(candidate.in_new)].get_mut(candidate.column) {
            *flag = true;
            left -= candidate.bytes;
        }
    }
    if left > budget {
        return None;
    }
    let [from_old, from_new] = omitted;
    Some(Shrunk { old: old.map(|tuple| without(&tuple, &from_old)), new: new.map(|tuple| without(&tuple, &from_new)) })
}

fn parse(bytes: &[u8]) -> Option<Tuple> {
    Tuple::parse(bytes::Bytes::copy_from_slice(bytes)).ok()
}

fn columns(tuple: Option<&Tuple>) -> usize {
    tuple.map_or(0, Tuple::len)
}

fn of_tuple<'a>(relation: &'a Relation, tuple: &'a Tuple, in_new: bool) -> impl Iterator<Item = Candidate> + 'a {
    tuple.iter().enumerate().filter_map(move |(column, datum)| {
        let Datum::Text(text) = datum else { return None };
        let is_key = relation.columns.get(column).is_some_and(|column| column.primary_key || column.identity_key);
        // What goes is the length word and the text; the tag stays.
        Some(Candidate { is_key, bytes: 4 + text.len(), in_new, column })
    })
}

fn without(tuple: &Tuple, omitted: &[bool]) -> Tuple {
    Tuple::from_values(tuple.iter().zip(omitted).map(|(datum, omitted)| if *omitted { Datum::Omitted } else { datum }))
}
