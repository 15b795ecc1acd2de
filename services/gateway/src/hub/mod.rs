//! Who gets what: subscriptions in groups, an index over them, and the fan-out.
//!
//! No IO and no clock: a batch goes in, frames come out in outboxes. Matching costs the matches: subscriptions that
//! ask for the same are one group, groups are found by the values of a row, a group is judged once for all rows with the same
//! values, and what groups send alike is encoded once.

mod answers;
mod compiled;
mod deliver;
mod encode;
mod fanout;
mod index;
mod judge;
mod key;
mod matching;
mod member;
mod sets;
mod shape;
mod table;

pub use answers::{Answers, Questions, RowPlace, RowQuestions};
pub use compiled::{CompiledSubscription, Unfit};
pub use encode::FrameCache;
pub use fanout::{Delivered, Hub, NotLoaded};
pub(crate) use judge::{Asking, Judged};
pub use key::{ConnId, EventMask, MatchSettings, NamedSubscriptions, Shared, SharedPolicy, SharedSet, SubscriptionKey};
pub use matching::Withheld;
pub use member::{Behind, Cause, Left, Member, Resync, SocketWire, Wire};
pub(crate) use sets::LOOK_BACK_US;
pub use sets::{Broken, MAX_SET_ROWS, SetId, SetRows};
pub(crate) use shape::Form;

#[cfg(test)]
mod tests;
