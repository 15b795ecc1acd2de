//! The machine, fed with messages and acks.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use proptest::prelude::*;
use reactor_model::envelope::EncodedRelation;
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity};
use reactor_model::{Batch, ChangeKind, Epoch, Lsn, OldImage, Position, RelationCache, Tuple, tuple::Datum};

use super::{ApplyError, Frame, Limits, Machine, Publish, StandbyStatus, Start};
use crate::pgoutput::{Message, OldRow, decode};

const TODOS: u32 = 1;
const NOTES: u32 = 2;
const NEVER: Duration = Duration::from_secs(1_000_000);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn at(lsn: u64, ordinal: u32) -> Position {
    Position { lsn: Lsn(lsn), ordinal }
}

const fn limits() -> Limits {
    Limits { max_payload_bytes: 1024 * 1024, confirm_lag: Duration::ZERO, confirm_lag_max_bytes: u64::MAX }
}

const fn start(previous: Position, continues: bool) -> Start {
    Start { epoch: Epoch(7), live_from: Lsn(5), previous, confirmed: Lsn(10), continues }
}

fn relation(oid: u32) -> EncodedRelation {
    let column = |name: &str, key| Column {
        name: name.to_owned(),
        type_oid: 25,
        type_mod: -1,
        primary_key: key,
        identity_key: key,
        collation: Collation::default(),
    };
    EncodedRelation::new(Arc::new(Relation {
        oid,
        table_oid: oid,
        schema: "public".to_owned(),
        table: format!("t{oid}"),
        columns: vec![column("id", true), column("text", false)],
        identity: ReplicaIdentity::Default,
        row_security: false,
        types: std::collections::BTreeMap::new(),
    }))
}

fn row(id: &str, text: &str) -> Bytes {
    Tuple::from_values([Datum::Text(id.as_bytes()), Datum::Text(text.as_bytes())]).as_bytes().clone()
}

/// A machine with a log that answers when told to.
struct Bench {
    machine: Machine,
    now: Duration,
    published: Vec<Publish>,
    cache: RelationCache,
}

impl Bench {
    fn new(limits: Limits, start: Start) -> Self {
        let mut machine = Machine::new(limits, start);
        machine.handle_relation(relation(TODOS), ms(0));
        machine.handle_relation(relation(NOTES), ms(0));
        Self { machine, now: ms(0), published: Vec::new(), cache: RelationCache::default() }
    }

    /// On an empty log, with the start mark stored.
    fn started() -> Self {
        let mut bench = Self::new(limits(), start(at(10, 0), false));
        bench.store_all();
        bench
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), ApplyError> {
        let frame = Frame { wal_start: Lsn(0), sent_us: 0 };
        self.machine.handle_message(frame, message, self.now)
    }

    fn begin(&mut self, lsn: u64) {
        self.send(&Message::Begin { commit_lsn: Lsn(lsn), commit_time_us: 0, xid: 1 }).expect("begin");
    }

    fn commit(&mut self, lsn: u64) {
        let (commit_lsn, end_lsn) = (Lsn(lsn), Lsn(lsn + 5));
        self.send(&Message::Commit { commit_lsn, end_lsn, commit_time_us: 0 }).expect("commit");
    }

    fn insert(&mut self, relation: u32, text: &str) {
        self.send(&Message::Insert { relation, new: &row("1", text) }).expect("insert");
    }

    fn transaction(&mut self, lsn: u64, rows: u32) {
        self.begin(lsn);
        (0..rows).for_each(|_| self.insert(TODOS, "x"));
        self.commit(lsn);
    }

    fn drained(&mut self) {
        self.machine.handle_input_drained(self.now);
        self.take();
    }

    fn take(&mut self) {
        while let Some(publish) = self.machine.poll_publish() {
            self.published.push(publish);
        }
    }

    fn ack(&mut self) {
        self.machine.handle_ack(self.now).expect("a batch in flight");
        self.take();
    }

    fn store_all(&mut self) {
        self.drained();
        while self.machine.in_flight().0 > 0 {
            self.ack();
        }
    }

    fn batches(&self) -> Vec<Batch> {
        self.published.iter().map(|one| Batch::decode(one.payload.clone(), &self.cache).expect("a batch")).collect()
    }

    fn positions(&self) -> Vec<Position> {
        self.batches().iter().flat_map(|batch| batch.changes.iter().map(|change| change.position)).collect()
    }

    fn status(&mut self) -> StandbyStatus {
        self.machine.standby_status(self.now)
    }
}

#[test]
fn an_empty_log_gets_a_start_mark_and_a_chain() {
    let mut bench = Bench::started();
    bench.transaction(20, 2);
    bench.transaction(30, 1);
    bench.drained();
    let batches = bench.batches();
    assert_eq!(batches.len(), 2, "changes of one table share a batch over transactions");
    assert!(batches[0].relation.is_none());
    assert_eq!((batches[0].previous, batches[0].last), (at(10, 0), at(10, 0)));
    assert_eq!((batches[1].previous, batches[1].last), (at(10, 0), at(30, 1)));
    assert_eq!(bench.positions(), [at(20, 1), at(20, 2), at(30, 1)]);
    assert_eq!((batches[1].epoch, batches[1].live_from), (Epoch(7), Lsn(5)));
}

#[test]
fn a_restart_skips_what_is_stored_and_goes_on_inside_the_transaction() {
    let mut bench = Bench::new(limits(), start(at(20, 2), true));
    bench.transaction(15, 3);
    bench.transaction(20, 4);
    bench.drained();
    assert_eq!(bench.positions(), [at(20, 3), at(20, 4)]);
    assert_eq!(bench.batches()[0].previous, at(20, 2));
    assert_eq!(bench.machine.totals().skipped, 5);
}

#[test]
fn tables_and_new_descriptions_end_a_batch() {
    let mut bench = Bench::started();
    bench.begin(20);
    bench.insert(TODOS, "a");
    bench.insert(NOTES, "b");
    bench.insert(NOTES, "c");
    bench.machine.handle_relation(relation(NOTES), bench.now);
    bench.insert(NOTES, "d");
    bench.commit(20);
    bench.drained();
    let tables: Vec<(Option<u32>, usize)> = bench
        .batches()
        .iter()
        .map(|batch| (batch.relation.as_ref().map(|relation| relation.oid), batch.changes.len()))
        .collect();
    assert_eq!(tables, [(None, 0), (Some(TODOS), 1), (Some(NOTES), 2), (Some(NOTES), 1)]);
}

#[test]
fn a_batch_holds_whole_transactions_or_a_part_of_one() {
    let mut bench = Bench::started();
    bench.transaction(20, 2);
    bench.begin(30);
    bench.insert(TODOS, "x");
    bench.insert(NOTES, "x");
    // Its end is on the way already.
    bench.drained();
    bench.commit(30);
    bench.drained();
    bench.begin(40);
    bench.insert(TODOS, &"x".repeat(100_000));
    bench.drained();
    bench.commit(40);
    bench.take();
    let told: Vec<_> = bench.batches().iter().skip(1).map(|batch| (batch.last, batch.ends_transaction)).collect();
    let expected = [(at(20, 2), true), (at(30, 1), false), (at(30, 2), true), (at(40, 1), false), (at(40, 1), true)];
    assert_eq!(told, expected);
}

#[test]
fn every_kind_of_change_keeps_its_images() {
    let mut bench = Bench::started();
    let (old, new) = (row("1", "old"), row("1", "new"));
    bench.begin(20);
    bench.send(&Message::Insert { relation: TODOS, new: &new }).expect("insert");
    bench.send(&Message::Update { relation: TODOS, old: OldRow::None, new: &new }).expect("update");
    bench.send(&Message::Update { relation: TODOS, old: OldRow::Full(&old), new: &new }).expect("update");
    bench.send(&Message::Delete { relation: TODOS, old: OldRow::Key(&old) }).expect("delete");
    let mut truncate = vec![b'T'];
    truncate.put_u32(2);
    truncate.put_u8(0);
    truncate.put_u32(TODOS);
    truncate.put_u32(NOTES);
    bench.send(&decode(&truncate).expect("truncate")).expect("truncate");
    bench.commit(20);
    bench.drained();
    let batches = bench.batches();
    let kinds: Vec<(u32, ChangeKind)> = batches
        .iter()
        .flat_map(|batch| batch.changes.iter().map(|change| (change.position.ordinal, change.kind)))
        .collect();
    let expected = [
        ChangeKind::Insert,
        ChangeKind::Update,
        ChangeKind::Update,
        ChangeKind::Delete,
        ChangeKind::Truncate,
        ChangeKind::Truncate,
    ];
    assert_eq!(kinds, (1..).zip(expected).collect::<Vec<_>>());
    let (todos, notes) = (&batches[1], &batches[2]);
    assert_eq!((todos.changes.len(), notes.changes.len()), (5, 1));
    assert_eq!(todos.changes[0].new.as_ref().map(Tuple::as_bytes), Some(&new));
    assert_eq!(todos.changes[1].old, OldImage::None);
    assert!(matches!(&todos.changes[2].old, OldImage::Full(tuple) if *tuple.as_bytes() == old));
    assert!(matches!(&todos.changes[3].old, OldImage::Key(_)));
}

#[test]
fn what_is_out_of_place_is_an_error() {
    let insert = row("1", "x");
    let change = Message::Insert { relation: TODOS, new: &insert };
    let begin = Message::Begin { commit_lsn: Lsn(20), commit_time_us: 0, xid: 1 };
    let commit = |lsn| Message::Commit { commit_lsn: Lsn(lsn), end_lsn: Lsn(lsn), commit_time_us: 0 };
    let check = |before: &[&Message<'_>], message: &Message<'_>, expected: ApplyError| {
        let mut bench = Bench::started();
        for message in before {
            bench.send(message).expect("in place");
        }
        assert_eq!(bench.send(message), Err(expected));
    };
    check(&[], &change, ApplyError::OutOfPlace);
    check(&[], &commit(20), ApplyError::OutOfPlace);
    check(&[&begin], &begin, ApplyError::OutOfPlace);
    check(&[&begin], &commit(21), ApplyError::OutOfPlace);
    check(&[&begin], &Message::Insert { relation: 9, new: &insert }, ApplyError::UnknownRelation(9));
    check(&[&begin], &Message::Insert { relation: TODOS, new: &[0, 1, b'n'] }, ApplyError::ColumnCount(TODOS));
    assert_eq!(Bench::started().machine.handle_ack(ms(0)), Err(ApplyError::UnexpectedAck));
}

#[test]
fn small_batches_go_out_at_once_until_the_log_is_busy() {
    let mut bench = Bench::started();
    for lsn in 20..30 {
        bench.transaction(lsn, 1);
        bench.drained();
    }
    assert_eq!(bench.machine.in_flight().0, 4, "four on their way, the rest waits");
    bench.ack();
    let last = bench.batches().pop().expect("a batch");
    assert_eq!((last.previous, last.last, last.changes.len()), (at(23, 1), at(29, 1), 6));
}

#[test]
fn batches_are_bounded_in_bytes_and_in_changes() {
    let mut bench = Bench::started();
    bench.transaction(20, 10_000);
    bench.begin(30);
    (0..10).for_each(|_| bench.insert(TODOS, &"y".repeat(100_000)));
    bench.commit(30);
    bench.store_all();
    let counts: Vec<usize> = bench.batches().iter().map(|batch| batch.changes.len()).collect();
    assert_eq!(counts, [0, 4096, 4096, 1808, 1, 2, 2, 2, 2, 1]);
    assert!(bench.published.iter().all(|one| one.payload.len() <= 256 * 1024));
}

#[test]
fn a_huge_transaction_is_held_back_by_the_window() {
    let mut bench = Bench::started();
    bench.begin(20);
    let text = "z".repeat(10_000);
    let mut sent = 0;
    while bench.machine.wants_input() {
        bench.insert(TODOS, &text);
        sent += 1;
    }
    let (batches, bytes) = bench.machine.in_flight();
    assert!((16 * 1024 * 1024..17 * 1024 * 1024).contains(&bytes), "{batches} batches, {bytes} bytes");
    for _ in 0..20_000 {
        while bench.machine.wants_input() {
            bench.insert(TODOS, &text);
            sent += 1;
        }
        assert!(bench.machine.in_flight().1 < 17 * 1024 * 1024);
        bench.take();
        bench.published.clear();
        bench.machine.handle_ack(bench.now).expect("in flight");
        if sent > 100_000 {
            break;
        }
    }
    assert!(sent > 100_000);
}

#[test]
fn alternating_tables_are_held_back_by_the_number_of_batches() {
    let mut bench = Bench::started();
    bench.begin(20);
    let mut sent = 0;
    while bench.machine.wants_input() {
        bench.insert(if sent % 2 == 0 { TODOS } else { NOTES }, "x");
        sent += 1;
    }
    assert_eq!((sent, bench.machine.in_flight().0), (257, 256));
}

#[test]
fn nothing_is_confirmed_beyond_what_is_stored() {
    let mut bench = Bench::started();
    assert_eq!(bench.status(), StandbyStatus { received: Lsn(10), flushed: Lsn(10) });
    bench.begin(20);
    bench.insert(TODOS, "a");
    bench.drained();
    bench.insert(NOTES, "b");
    bench.commit(20);
    bench.drained();
    assert_eq!(bench.status(), StandbyStatus { received: Lsn(25), flushed: Lsn(10) });
    bench.ack();
    // The commit record itself stays unconfirmed, so the transaction is sent again after a crash.
    assert_eq!(bench.status().flushed, Lsn(20));
    bench.ack();
    assert_eq!(bench.status().flushed, Lsn(20));
    let lsns = bench.machine.lsns(bench.now);
    assert_eq!((lsns.published, lsns.acked), (Lsn(20), Lsn(20)));
}

#[test]
fn confirms_with_the_lag_and_within_its_bound() {
    let lag = Limits { confirm_lag: Duration::from_secs(130), confirm_lag_max_bytes: 1000, ..limits() };
    let mut bench = Bench::new(lag, start(at(10, 0), false));
    bench.store_all();
    bench.now = ms(1_000);
    bench.transaction(200, 1);
    bench.store_all();
    for (now, expected) in [(1_000, 10), (130_999, 10), (131_000, 200)] {
        bench.now = ms(now);
        assert_eq!(bench.status().flushed, Lsn(expected), "at {now} ms");
    }
    bench.transaction(5_000, 1);
    bench.store_all();
    assert_eq!(bench.status().flushed, Lsn(4_000));
}

#[test]
fn a_restart_does_not_confirm_at_once_what_it_found_stored() {
    let lag = Limits { confirm_lag: ms(1_000), ..limits() };
    let mut bench = Bench::new(lag, start(at(50, 3), true));
    assert_eq!(bench.status(), StandbyStatus { received: Lsn(50), flushed: Lsn(10) });
    bench.now = ms(1_000);
    assert_eq!(bench.status().flushed, Lsn(50));
}

#[test]
fn marks_follow_the_servers_log_when_all_is_quiet() {
    let mut bench = Bench::started();
    let tick = |bench: &mut Bench, now: u64| {
        bench.now = ms(now);
        bench.machine.handle_timeout(bench.now);
        bench.store_all();
        bench.published.len()
    };
    bench.machine.handle_keepalive(Lsn(40), false, ms(1));
    assert_eq!(bench.machine.poll_timeout(ms(1)).0, ms(0), "the first status is due");
    bench.machine.poll_status(ms(1));
    assert_eq!(tick(&mut bench, 4_999), 1);
    assert_eq!(tick(&mut bench, 5_000), 2, "the log has moved");
    assert_eq!(bench.batches()[1].last, at(40, 0));
    assert_eq!(bench.status().flushed, Lsn(40), "a stored mark is confirmed");
    assert_eq!(tick(&mut bench, 34_999), 2);
    assert_eq!(tick(&mut bench, 35_000), 3, "nothing has moved for long");
    let last = bench.batches().pop().expect("a mark");
    assert_eq!((last.previous, last.last), (at(40, 0), at(40, 0)));

    bench.machine.handle_keepalive(Lsn(60), false, bench.now);
    bench.begin(60);
    assert_eq!(tick(&mut bench, 90_000), 3, "not inside a transaction");
    bench.insert(TODOS, "x");
    bench.commit(60);
    bench.store_all();
    assert_eq!(tick(&mut bench, 94_999), 4);
    assert_eq!(tick(&mut bench, 120_000), 5, "the newest change is no older than the server's log");
    assert_eq!(bench.batches().pop().expect("a mark").last, at(60, 1), "a mark never goes back");
}

#[test]
fn a_busy_log_gets_no_marks() {
    let mut bench = Bench::started();
    bench.machine.handle_keepalive(Lsn(40), false, ms(0));
    bench.now = ms(5_000);
    bench.machine.handle_timeout(bench.now);
    bench.take();
    bench.machine.handle_keepalive(Lsn(50), false, bench.now);
    bench.machine.handle_timeout(NEVER);
    bench.take();
    assert_eq!(bench.published.len(), 2, "the mark before is not stored yet");
}

#[test]
fn a_requested_reply_is_due_at_once() {
    let mut bench = Bench::started();
    assert!(bench.machine.poll_status(ms(0)).is_some());
    assert_eq!(bench.machine.poll_status(ms(1)), None);
    bench.machine.handle_keepalive(Lsn(30), true, ms(2));
    assert_eq!(bench.machine.poll_status(ms(2)), Some(StandbyStatus { received: Lsn(30), flushed: Lsn(10) }));
}

#[test]
fn only_old_commits_count_as_history() {
    let mut bench = Bench::started();
    let sent = |sent_us| Frame { wal_start: Lsn(1), sent_us };
    let begin = Message::Begin { commit_lsn: Lsn(20), commit_time_us: 1_000_000, xid: 1 };
    bench.machine.handle_message(sent(1_015_000), &begin, ms(0)).expect("begin");
    assert!(!bench.machine.is_behind());
    let insert = row("1", "x");
    let insert = Message::Insert { relation: TODOS, new: &insert };
    bench.machine.handle_message(sent(1_025_000), &insert, ms(0)).expect("insert");
    assert!(bench.machine.is_behind());
    assert_eq!(bench.machine.commit_lag(), ms(25));
    bench.machine.handle_keepalive(Lsn(20), false, ms(0));
    assert!(!bench.machine.is_behind());
}

#[test]
fn small_batches_of_history_wait_a_moment_for_more() {
    let mut bench = Bench::started();
    bench.machine.poll_status(ms(0));
    let sent = Frame { wal_start: Lsn(1), sent_us: 1_000_000 };
    let small = row("1", "x");
    let large = row("1", &"x".repeat(70_000));
    let mut commit_lsn = Lsn(20);
    let mut insert = |row: &[u8]| {
        commit_lsn.0 += 10;
        let messages = [
            Message::Begin { commit_lsn, commit_time_us: 0, xid: 1 },
            Message::Insert { relation: TODOS, new: row },
            Message::Commit { commit_lsn, end_lsn: Lsn(commit_lsn.0 + 5), commit_time_us: 0 },
        ];
        for message in &messages {
            bench.machine.handle_message(sent, message, bench.now).expect("a message in its place");
        }
        bench.machine.handle_input_drained(bench.now);
        let published = bench.machine.poll_publish().is_some();
        (published, bench.machine.poll_timeout(bench.now))
    };
    let (published, timeout) = insert(&small);
    assert_eq!((published, timeout), (false, (ms(3), "small batch")));
    let (published, _) = insert(&large);
    assert!(published, "a large one does not wait");
    let (published, _) = insert(&small);
    assert!(!published);
    bench.machine.handle_timeout(ms(3));
    assert!(bench.machine.poll_publish().is_some(), "and a small one not for long");
}

#[test]
fn a_row_too_large_for_the_bus_loses_its_largest_values_and_keys_last() {
    let small = Limits { max_payload_bytes: 2_000, ..limits() };
    let check = |old: OldRow<'_>, new: (&str, &str), expected: [Datum<'_>; 2]| {
        let mut bench = Bench::new(small, start(at(10, 0), false));
        bench.begin(20);
        bench.insert(TODOS, "before");
        let new = row(new.0, new.1);
        bench.send(&Message::Update { relation: TODOS, old, new: &new }).expect("update");
        bench.insert(TODOS, "after");
        bench.commit(20);
        bench.drained();
        assert!(bench.published.iter().all(|one| one.payload.len() <= 2_000));
        assert_eq!(bench.positions(), [at(20, 1), at(20, 2), at(20, 3)]);
        assert_eq!(bench.machine.totals().oversize, 1);
        let change = bench.batches().into_iter().flat_map(|batch| batch.changes).nth(1).expect("the update");
        assert_eq!(change.new.expect("a new row").iter().collect::<Vec<_>>(), expected);
    };
    let (large, huge) = ("l".repeat(1_900), "h".repeat(9_000));
    check(OldRow::None, ("1", &large), [Datum::Text(b"1"), Datum::Omitted]);
    check(OldRow::None, (&huge, "small"), [Datum::Omitted, Datum::Omitted]);
    let old = row("1", &huge);
    check(OldRow::Full(&old), ("1", "small"), [Datum::Text(b"1"), Datum::Text(b"small")]);
}

#[test]
fn what_cannot_fit_at_all_is_an_error() {
    let mut bench = Bench::new(Limits { max_payload_bytes: 100, ..limits() }, start(at(10, 0), false));
    bench.begin(20);
    let new = row("1", "x");
    assert_eq!(bench.send(&Message::Insert { relation: TODOS, new: &new }), Err(ApplyError::DoesNotFit));
}

#[test]
fn an_end_at_a_place_leaves_a_mark_there() {
    let mut bench = Bench::started();
    bench.transaction(20, 2);
    for _ in 0..2 {
        bench.machine.handle_end_at(Lsn(30), bench.now);
        bench.store_all();
    }
    let batches = bench.batches();
    assert_eq!(bench.positions(), [at(20, 1), at(20, 2)]);
    let mark = batches.last().expect("a mark");
    assert!(batches.len() == 3 && mark.relation.is_none());
    assert_eq!((mark.previous, mark.last), (at(20, 2), at(30, 0)));
}

#[test]
fn an_end_in_the_middle_leaves_a_place_to_go_on_from() {
    let mut bench = Bench::started();
    bench.begin(20);
    bench.insert(TODOS, "a");
    bench.insert(TODOS, "b");
    bench.machine.handle_end(bench.now);
    bench.take();
    let last = bench.published.last().expect("a batch").last;
    let mut again = Bench::new(limits(), start(last, true));
    again.transaction(20, 5);
    again.drained();
    assert_eq!(again.positions(), [at(20, 3), at(20, 4), at(20, 5)]);
}

proptest! {
    /// Whatever the transactions, and wherever sessions break off with part of what was published stored: the log ends
    /// up with every change once, in order, in an unbroken chain, and never less than what was confirmed.
    #[test]
    fn crashes_lose_and_repeat_nothing(
        transactions in prop::collection::vec((1_u32..60, any::<bool>()), 1..25),
        crashes in prop::collection::vec((1_usize..200, 0_usize..6), 0..12),
    ) {
        let mut expected = Vec::new();
        for (index, (rows, _)) in (0_u64..).zip(&transactions) {
            expected.extend((1..=*rows).map(|ordinal| at(100 + 10 * index, ordinal)));
        }
        let mut stored: Vec<Publish> = Vec::new();
        let mut confirmed = Lsn(10);
        let crashes = crashes.into_iter().map(Some).chain([None]);
        for crash in crashes {
            let newest = stored.last().map(|publish| publish.last);
            let begin = Start { confirmed, ..start(newest.unwrap_or(at(10, 0)), newest.is_some()) };
            let mut bench = Bench::new(limits(), begin);
            let mut left = crash.map_or(usize::MAX, |(messages, _)| messages);
            'session: for (index, (rows, alternate)) in (0_u64..).zip(&transactions) {
                let lsn = 100 + 10 * index;
                // Postgres does not send again what was confirmed.
                if Lsn(lsn) < confirmed { continue; }
                bench.begin(lsn);
                for ordinal in 0..*rows {
                    if left == 0 { break 'session; }
                    left -= 1;
                    bench.insert(if *alternate && ordinal % 2 == 0 { NOTES } else { TODOS }, "x");
                    if ordinal % 7 == 0 { bench.drained(); }
                    if ordinal % 11 == 0 && bench.machine.in_flight().0 > 1 { bench.take(); bench.ack(); }
                }
                bench.commit(lsn);
            }
            bench.drained();
            if crash.is_none() { bench.store_all(); }
            // Of what is in flight, a part was stored although the acks never came.
            let lost = crash.map_or(0, |(_, lost)| lost.min(bench.machine.in_flight().0));
            confirmed = bench.status().flushed;
            bench.published.truncate(bench.published.len() - lost);
            stored.append(&mut bench.published);
            prop_assert!(stored.last().map_or(Lsn(10), |publish| publish.last.lsn) >= confirmed);
        }
        let cache = RelationCache::default();
        let batches: Vec<Batch> =
            stored.iter().map(|one| Batch::decode(one.payload.clone(), &cache).expect("a batch")).collect();
        prop_assert!(batches.windows(2).all(|pair| pair[1].previous == pair[0].last));
        let got: Vec<Position> =
            batches.iter().flat_map(|batch| batch.changes.iter().map(|change| change.position)).collect();
        prop_assert_eq!(got, expected);
        check_transactions(&batches, |lsn| transactions[usize::try_from((lsn - 100) / 10).expect("an index")].0)?;
    }
}

/// Each batch holds whole transactions or a part of one, and each transaction's end is told.
fn check_transactions(batches: &[Batch], rows: impl Fn(u64) -> u32) -> Result<(), TestCaseError> {
    let mut ended = std::collections::BTreeSet::new();
    for batch in batches.iter().filter(|batch| batch.last.ordinal > 0) {
        let lsn = batch.last.lsn.0;
        if batch.ends_transaction {
            prop_assert_eq!(batch.last.ordinal, rows(lsn), "{} ends early", lsn);
            ended.insert(lsn);
        } else {
            prop_assert!(batch.changes.iter().all(|change| change.position.lsn.0 == lsn), "a part and others");
        }
        let others = batch.changes.iter().filter(|change| change.position.lsn.0 != lsn);
        ended.extend(others.map(|change| change.position.lsn.0));
    }
    let all: std::collections::BTreeSet<u64> =
        batches.iter().flat_map(|batch| batch.changes.iter().map(|change| change.position.lsn.0)).collect();
    prop_assert_eq!(ended, all);
    Ok(())
}
