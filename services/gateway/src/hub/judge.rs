//! Whether a change goes to a subscription, and in which form.
//!
//! In this order: the kind of change, the organisation, the filter, the policy. What Postgres must be asked is asked last.

use std::sync::Arc;

use reactor_model::filter::{BoundCondition, Outcome, RowImage, RowValue, Truth};
use reactor_model::{Change, ChangeKind, OldImage};
use reactor_policy_engine::{Principal, Verdict};

use super::answers::{Answers, Questions, RowPlace};
use super::compiled::{CompiledSubscription, OrgTest};
use super::sets::NamedSets;
use super::shape::Form;

/// Whether a change goes to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// No.
    No,
    /// Yes.
    Hit(Form),
    /// No, since policy cannot tell.
    Denied(Denied),
    /// It depends on answers that are not there.
    Unanswered,
}

/// Why policy cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Denied {
    /// It raises an error for the row.
    Raised,
    /// A value that it needs was not sent.
    Missing,
}

/// Collects what is not known yet, on behalf of a principal.
pub(crate) struct Asking<'a> {
    pub(crate) questions: &'a mut Questions,
    pub(crate) principal: &'a Arc<Principal>,
}

/// What is known of one row.
enum Seen {
    Yes,
    No,
    /// Not more than that it has the organisation and satisfies the filter.
    Missing,
    Raised,
    Unanswered,
}

impl From<Seen> for Judged {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Yes => Self::Hit(Form::Whole),
            Seen::No => Self::No,
            Seen::Missing => Self::Denied(Denied::Missing),
            Seen::Raised => Self::Denied(Denied::Raised),
            Seen::Unanswered => Self::Unanswered,
        }
    }
}

impl CompiledSubscription {
    /// Judges a change, which is the batch's `index`th. Without `asking`, a question without an answer only makes the
    /// result [`Judged::Unanswered`].
    pub(crate) fn judge(
        &self,
        change: &Change,
        index: usize,
        answers: &Answers,
        asking: &mut Option<Asking<'_>>,
    ) -> Judged {
        if !self.events.has(change.kind) {
            return self.judge_unwanted(change, index, answers, asking);
        }
        match change.kind {
            ChangeKind::Truncate => Judged::Hit(Form::Whole),
            ChangeKind::Insert | ChangeKind::Update => self.judge_new(change, index, answers, asking),
            ChangeKind::Delete => self.judge_delete(change, index, answers, asking),
        }
    }

    /// To who wants to know of deleted rows, a row that an UPDATE takes away is one.
    fn judge_unwanted(
        &self,
        change: &Change,
        index: usize,
        answers: &Answers,
        asking: &mut Option<Asking<'_>>,
    ) -> Judged {
        if !self.leave || change.kind != ChangeKind::Update || !self.events.has(ChangeKind::Delete) {
            return Judged::No;
        }
        match self.judge_new(change, index, answers, asking) {
            leaves @ (Judged::Hit(Form::Leave) | Judged::Unanswered) => leaves,
            Judged::No | Judged::Hit(_) | Judged::Denied(_) => Judged::No,
        }
    }

    fn judge_new(&self, change: &Change, index: usize, answers: &Answers, asking: &mut Option<Asking<'_>>) -> Judged {
        let Some(new) = RowImage::after(change) else { return Judged::No };
        match self.see(&new, Some(RowPlace { change: index, old: false }), answers, asking) {
            Seen::Yes if !self.shows_old(change) => Judged::Hit(Form::OldKeys),
            Seen::No if self.leave && change.kind == ChangeKind::Update => {
                let Some(old) = RowImage::before(change, &self.identity) else { return Judged::No };
                match self.see(&old, Some(RowPlace { change: index, old: true }), answers, asking) {
                    Seen::Yes => Judged::Hit(Form::Leave),
                    Seen::Unanswered => Judged::Unanswered,
                    Seen::No | Seen::Missing | Seen::Raised => Judged::No,
                }
            }
            seen => seen.into(),
        }
    }

    fn judge_delete(
        &self,
        change: &Change,
        index: usize,
        answers: &Answers,
        asking: &mut Option<Asking<'_>>,
    ) -> Judged {
        let Some(old) = RowImage::before(change, &self.identity) else { return Judged::No };
        let place = RowPlace { change: index, old: true };
        let lacks_values = matches!(change.old, OldImage::Key(_));
        // What Postgres would be asked about a row without its values, it could not say.
        let row = if lacks_values && !self.strict_deletes { None } else { Some(place) };
        match self.see(&old, row, answers, asking) {
            Seen::Missing if !self.strict_deletes => Judged::Hit(Form::OldKeys),
            seen => seen.into(),
        }
    }

    /// Whether the whole old row may be shown beside a new row that is. Postgres is not asked for this.
    fn shows_old(&self, change: &Change) -> bool {
        let Some(old) = RowImage::before(change, &self.identity) else { return true };
        let by_policy = match &self.policy {
            None => true,
            Some(policy) => policy.evaluate(&old, &NamedSets(&self.sets)) == Verdict::True,
        };
        by_policy && self.is_in_org(&old)
    }

    /// `place` is where Postgres finds the row when it must be asked about it; `None` when it could not say.
    fn see(
        &self,
        row: &RowImage<'_>,
        place: Option<RowPlace>,
        answers: &Answers,
        asking: &mut Option<Asking<'_>>,
    ) -> Seen {
        if !self.is_in_org(row) {
            return Seen::No;
        }
        let mut comparisons = Vec::new();
        match self.filter.evaluate(row.image, row.fallback, row.held) {
            Outcome::Known(Truth::True) => {}
            Outcome::Known(Truth::False | Truth::Unknown) => return Seen::No,
            Outcome::Ask(questions) => {
                comparisons = questions;
                comparisons.retain(|question| answers.get(question.condition, question.value).is_none());
                let mut answer = |condition: &BoundCondition, value: &str| answers.get(condition, value);
                let truth = self.filter.evaluate_with(row.image, row.fallback, row.held, &mut answer);
                if comparisons.is_empty() && truth != Truth::True {
                    return Seen::No;
                }
            }
        }
        let mut seen = Seen::Yes;
        if let Some(policy) = &self.policy {
            match policy.evaluate(row, &NamedSets(&self.sets)) {
                Verdict::True => {}
                Verdict::False | Verdict::Unknown => return Seen::No,
                Verdict::Missing => seen = Seen::Missing,
                Verdict::Raised => return Seen::Raised,
                Verdict::Ask => match place {
                    None => seen = Seen::Missing,
                    Some(place) => match self.check(place, answers, asking) {
                        Some(true) => {}
                        Some(false) => return Seen::No,
                        None => seen = Seen::Unanswered,
                    },
                },
            }
        }
        if comparisons.is_empty() {
            return seen;
        }
        if let Some(asking) = asking {
            let asked = comparisons.into_iter().map(|question| (question.condition.clone(), question.value.to_owned()));
            asking.questions.comparisons.extend(asked);
        }
        Seen::Unanswered
    }

    /// Postgres's answer about a row. Without a key nobody knows for whom the answer would be, so that none is asked for.
    fn check(&self, place: RowPlace, answers: &Answers, asking: &mut Option<Asking<'_>>) -> Option<bool> {
        let key = self.check_key.as_deref()?;
        let answer = answers.row(key, place);
        if let (None, Some(asking)) = (answer, asking) {
            asking.questions.ask_row(key, asking.principal, place);
        }
        answer
    }

    /// An organisation that cannot be known is another one.
    fn is_in_org(&self, row: &RowImage<'_>) -> bool {
        match &self.org {
            OrgTest::Any => true,
            OrgTest::Never => false,
            OrgTest::Is(column, org) => row.value(*column) == RowValue::Text(org.as_bytes()),
        }
    }
}
