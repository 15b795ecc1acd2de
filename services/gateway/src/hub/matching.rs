//! Which groups get which changes of a batch.
//!
//! Changes with equal values in the columns that a group's verdict depends on get the same verdict: they form a class, and each
//! group is judged once for each class.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use reactor_model::filter::{RowImage, RowValue};
use reactor_model::{Batch, Change, ChangeKind, Datum, OldImage, Tuple};

use super::answers::{Answers, Questions};
use super::index::{ColumnsId, Found, GroupId};
use super::judge::{Asking, Denied, Judged};
use super::sets::LaneSets;
use super::shape::Form;
use super::table::{Columns, Table};

/// The hits of one group: classes of changes, and the form in which they come.
pub(super) type Classes = Vec<(usize, Form)>;

/// What a batch's changes matched.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// By class the indices of its changes, in order.
    classes: Vec<Class>,
    pub(super) groups: HashMap<GroupId, Classes>,
}

#[derive(Debug, Default)]
struct Class {
    changes: Vec<usize>,
    hits: usize,
    denied: Vec<Denied>,
    unanswered: usize,
}

/// What became of changes that somebody may not have got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// By a policy that raised an error.
    pub raised: u64,
    /// For want of a value that a policy needs.
    pub missing: u64,
    /// For want of an answer.
    pub unanswered: u64,
}

impl Matches {
    /// The changes of some classes, in order.
    pub(super) fn changes(&self, classes: &[(usize, Form)]) -> Vec<(usize, Form)> {
        let of_class = |(class, form): &(usize, Form)| {
            let changes = self.classes.get(*class).map(|class| class.changes.as_slice()).unwrap_or_default();
            changes.iter().map(move |change| (*change, *form)).collect::<Vec<_>>()
        };
        let mut changes: Vec<(usize, Form)> = classes.iter().flat_map(of_class).collect();
        if classes.len() > 1 {
            // Found by two of its values, a change is in two classes.
            changes.sort_unstable();
            changes.dedup_by_key(|(change, _)| *change);
        }
        changes
    }

    /// How many changes somebody got.
    pub(super) fn matched(&self) -> u64 {
        let hit = self.classes.iter().filter(|class| class.hits > 0);
        let mut changes: Vec<usize> = hit.flat_map(|class| class.changes.iter().copied()).collect();
        changes.sort_unstable();
        changes.dedup();
        changes.len() as u64
    }

    /// What was withheld, by change and group.
    pub(super) fn withheld(&self) -> Withheld {
        let mut withheld = Withheld::default();
        for class in &self.classes {
            let changes = class.changes.len() as u64;
            withheld.unanswered += changes * class.unanswered as u64;
            for denied in &class.denied {
                match denied {
                    Denied::Raised => withheld.raised += changes,
                    Denied::Missing => withheld.missing += changes,
                }
            }
        }
        withheld
    }
}

/// Where candidates are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Route {
    /// Groups that every row may concern.
    Rest,
    /// A value of a column.
    Having(usize),
    /// No known value of a column.
    Unheld(usize),
    /// A value that a row had in a column before it was changed.
    Had(usize),
}

/// Matches one batch.
pub(super) struct Matcher<'a> {
    pub(super) table: &'a Table,
    pub(super) sets: &'a LaneSets,
    pub(super) batch: &'a Batch,
    pub(super) answers: &'a Answers,
    /// Where questions without an answer go.
    pub(super) questions: Option<&'a mut Questions>,
    matches: Matches,
    founds: Vec<Found>,
    routes: HashMap<Route, HashMap<Box<[u8]>, usize>>,
    known: HashMap<(usize, ColumnsId, u64), Vec<usize>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(
        table: &'a Table,
        sets: &'a LaneSets,
        batch: &'a Batch,
        answers: &'a Answers,
        questions: Option<&'a mut Questions>,
    ) -> Self {
        let (matches, founds, routes, known) = Default::default();
        Self { table, sets, batch, answers, questions, matches, founds, routes, known }
    }

    /// Matches some of the batch's changes.
    pub(super) fn run(mut self, range: Range<usize>) -> Matches {
        for index in range {
            let Some(change) = self.batch.changes.get(index) else { continue };
            if change.kind == ChangeKind::Truncate {
                let all = self.table.groups.keys().copied().collect::<Vec<_>>();
                self.judge_class(index, &all);
            } else {
                self.find(index, change);
            }
        }
        self.matches
    }

    fn find(&mut self, index: usize, change: &'a Change) {
        self.follow(Route::Rest, &[], index, change);
        let Some(row) = judged(change) else { return };
        let before = if change.kind == ChangeKind::Update { change.old.tuple() } else { None };
        for column in self.table.index.columns() {
            let value = if is_held(self.batch, change, column) { row.value(column) } else { RowValue::Missing };
            match value {
                RowValue::Text(text) => self.follow(Route::Having(column), text, index, change),
                RowValue::Missing | RowValue::Withheld => self.follow(Route::Unheld(column), &[], index, change),
                RowValue::Null => {}
            }
            if let Some(Datum::Text(had)) = before.and_then(|old| old.get(column))
                && value != RowValue::Text(had)
            {
                self.follow(Route::Had(column), had, index, change);
            }
        }
    }

    /// Judges a change for the groups that are found on a route.
    fn follow(&mut self, route: Route, value: &[u8], index: usize, change: &Change) {
        let known = self.routes.get(&route).and_then(|values| values.get(value)).copied();
        let found = known.unwrap_or_else(|| {
            let index = &self.table.index;
            self.founds.push(match route {
                Route::Rest => index.rest(),
                Route::Having(column) | Route::Had(column) => index.having(column, value, self.sets),
                Route::Unheld(column) => index.unheld(column),
            });
            self.routes.entry(route).or_default().insert(value.into(), self.founds.len() - 1);
            self.founds.len() - 1
        });
        let kinds: Vec<ColumnsId> = self.founds.get(found).into_iter().flat_map(Found::keys).copied().collect();
        for kind in kinds {
            let Some(columns) = self.table.columns(kind) else { continue };
            if matches!(route, Route::Had(_)) && !columns.leave {
                continue;
            }
            let signature = columns.read.as_ref().map(|read| signature(read, change));
            let classes = signature.and_then(|signature| self.known.get(&(found, kind, signature)));
            let is_like = |class: &&usize| self.is_like(**class, columns, change);
            if let Some(class) = classes.and_then(|classes| classes.iter().find(is_like)).copied() {
                if let Some(class) = self.matches.classes.get_mut(class) {
                    class.changes.push(index);
                }
                continue;
            }
            let groups = self.founds.get_mut(found).and_then(|found| found.get_mut(&kind)).map(std::mem::take);
            let groups = groups.unwrap_or_default();
            let class = self.judge_class(index, &groups);
            if let Some(place) = self.founds.get_mut(found).and_then(|found| found.get_mut(&kind)) {
                *place = groups;
            }
            if let Some(signature) = signature {
                self.known.entry((found, kind, signature)).or_default().push(class);
            }
        }
    }

    fn is_like(&self, class: usize, columns: &Columns, change: &Change) -> bool {
        let first = self.matches.classes.get(class).and_then(|class| class.changes.first());
        let first = first.and_then(|index| self.batch.changes.get(*index));
        first.is_some_and(|first| columns.read.as_ref().is_some_and(|read| are_alike(read, first, change)))
    }

    /// Begins a class with a change, and judges it for the groups.
    fn judge_class(&mut self, index: usize, groups: &[GroupId]) -> usize {
        let number = self.matches.classes.len();
        let mut class = Class { changes: vec![index], ..Class::default() };
        let change = self.batch.changes.get(index);
        for id in groups {
            let group = self.table.groups.get(id);
            let compiled = group.and_then(|group| group.compiled.as_ref());
            let (Some(change), Some(group), Some(compiled)) = (change, group, compiled) else { continue };
            let principal = group.members().next().map(|member| &member.principal);
            let mut asking = match (&mut self.questions, principal) {
                (Some(questions), Some(principal)) => Some(Asking { questions, principal }),
                _ => None,
            };
            match compiled.judge(change, index, self.answers, &mut asking) {
                Judged::No => {}
                Judged::Hit(form) => {
                    class.hits += 1;
                    self.matches.groups.entry(*id).or_default().push((number, form));
                }
                Judged::Denied(denied) => class.denied.push(denied),
                Judged::Unanswered => class.unanswered += 1,
            }
        }
        self.matches.classes.push(class);
        number
    }
}

/// The row that a change is judged on: the new one, or the old one of a DELETE.
fn judged(change: &Change) -> Option<RowImage<'_>> {
    let old = || change.old.tuple().map(|image| RowImage { image, fallback: None, held: None });
    RowImage::after(change).or_else(old)
}

fn is_held(batch: &Batch, change: &Change, column: usize) -> bool {
    let by_key_only = change.new.is_none() && matches!(change.old, OldImage::Key(_));
    let column = batch.relation.as_ref().and_then(|relation| relation.columns.get(column));
    !by_key_only || column.is_some_and(|column| column.identity_key)
}

const fn old_kind(change: &Change) -> u8 {
    match &change.old {
        OldImage::None => 0,
        OldImage::Key(_) => 1,
        OldImage::Full(_) => 2,
    }
}

fn signature(columns: &[usize], change: &Change) -> u64 {
    let mut hasher = DefaultHasher::new();
    change.kind.hash(&mut hasher);
    old_kind(change).hash(&mut hasher);
    for tuple in [change.new.as_ref(), change.old.tuple()].into_iter().flatten() {
        for column in columns {
            match tuple.get(*column) {
                Some(Datum::Text(text)) => text.hash(&mut hasher),
                Some(Datum::Null) => 1_u8.hash(&mut hasher),
                Some(Datum::Unchanged) => 2_u8.hash(&mut hasher),
                Some(Datum::Omitted) => 3_u8.hash(&mut hasher),
                None => 4_u8.hash(&mut hasher),
            }
        }
    }
    hasher.finish()
}

/// Whether two changes have equal values in some columns, before and after.
fn are_alike(columns: &[usize], left: &Change, right: &Change) -> bool {
    let same = |left: Option<&Tuple>, right: Option<&Tuple>| match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => columns.iter().all(|column| left.get(*column) == right.get(*column)),
        (None, Some(_)) | (Some(_), None) => false,
    };
    left.kind == right.kind
        && old_kind(left) == old_kind(right)
        && same(left.new.as_ref(), right.new.as_ref())
        && same(left.old.tuple(), right.old.tuple())
}
