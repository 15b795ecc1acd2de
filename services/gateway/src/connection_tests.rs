//! Connections over a log in memory and an authorizer that says what it is told to: lanes, sets and changes of policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use reactor_bus::ChangeLog;
use reactor_bus::memory::{MemoryLog, MemoryLogConfig};
use reactor_model::envelope::{BatchBuilder, EncodedRelation, OldTuple};
use reactor_model::filter::{BoundFilter, Filter, Truth};
use reactor_model::relation::Collation;
use reactor_model::{
    Batch, ChangeKind, Code, Column, Datum, Epoch, EventId, Lsn, Position, Relation, RelationCache, ReplicaIdentity,
    TenantId, Tuple, TypeInfo, TypeKind,
};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, CheckRequest, CheckedValue, ColumnMask, Comparator, Comparison,
    Decision, Denial, Grant, MemberMode, MemberRow, MemberSet, Members, MembersRequest, PolicyVersion, Predicate,
    Principal, RowPolicy, Scalar,
};
use reactor_protocol::sse::{SseEvent, SseParser};
use reactor_testkit::wait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::{ActiveOrg, Identity};
use crate::catch_up::{CatchUp, CaughtUp};
use crate::connection::{Connection, Link, Phase, Standing, Start};
use crate::feed::{Feed, FeedSettings};
use crate::hub::{ConnId, EventMask, MatchSettings, Member, Wire};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::subscription::{Subscription, keys, lane};

const TEXT: u32 = 25;
const SOON: Duration = Duration::from_secs(20);

/// What the authorizer says.
#[derive(Clone, Debug)]
struct Script {
    version: u64,
    row_security: bool,
    policy: RowPolicy,
    denies: bool,
    members: Members,
    /// Owners whose rows Postgres shows.
    visible: BTreeSet<String>,
}

#[derive(Debug)]
struct Scripted {
    script: watch::Sender<Script>,
    is_away: AtomicBool,
    /// How long it takes to decide.
    takes: Mutex<Duration>,
    /// Whether rows are judged, or wait.
    judges: watch::Sender<bool>,
    asked: Mutex<BTreeMap<&'static str, usize>>,
}

impl Scripted {
    fn count(&self, question: &'static str) {
        *self.counts().entry(question).or_default() += 1;
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.asked.lock().expect("not poisoned")
    }

    fn answer<T>(&self, answer: T) -> Result<T, AuthorizerError> {
        if self.is_away.load(Ordering::SeqCst) { Err(AuthorizerError::Timeout) } else { Ok(answer) }
    }

    /// Changes what is said, under a new version.
    fn change(&self, change: impl FnOnce(&mut Script)) {
        self.script.send_modify(|script| {
            script.version += 1;
            change(script);
        });
    }
}

impl Authorizer for Scripted {
    fn authorize(&self, _: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        self.count("authorize");
        let script = self.script.borrow().clone();
        let decision = if script.denies {
            Decision::Deny(Denial { code: Code::PermissionDenied, message: "no".into(), hint: String::new() })
        } else {
            Decision::Allow(grant(&script))
        };
        let takes = *self.takes.lock().expect("not poisoned");
        async move {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            self.answer(decision)
        }
        .boxed()
    }

    fn compare(&self, _: TenantId, _: Vec<Comparison>) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        self.count("check_rows");
        let visible = self.script.borrow().visible.clone();
        let is_visible =
            |value: Option<&CheckedValue>| matches!(value, Some(CheckedValue::Text(owner)) if visible.contains(owner));
        let answers = request.rows.iter().map(|row| is_visible(row.values.get(1))).collect();
        async move {
            let _ = self.judges.subscribe().wait_for(|judges| *judges).await;
            self.answer(answers)
        }
        .boxed()
    }

    fn members(&self, _: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        self.count("members");
        let members = self.script.borrow().members.clone();
        async move {
            tokio::task::yield_now().await;
            self.answer(members)
        }
        .boxed()
    }

    fn watch(&self, _: TenantId) -> BoxStream<'static, PolicyVersion> {
        let versions = futures::stream::unfold((self.script.subscribe(), true), |(mut script, is_first)| async move {
            if !is_first {
                script.changed().await.ok()?;
            }
            let version = PolicyVersion(script.borrow_and_update().version);
            Some((version, (script, false)))
        });
        versions.boxed()
    }

    fn unavailable(&self) -> Option<String> {
        self.is_away.load(Ordering::SeqCst).then(|| "away".to_owned())
    }
}

fn grant(script: &Script) -> Grant {
    Grant {
        rule: "grant:select".into(),
        columns: ColumnMask::All,
        filter: BoundFilter::And(Vec::new()),
        asks_postgres: asks(&script.policy.predicate),
        policy: script.policy.clone(),
        org_scoped: false,
        row_security: script.row_security,
        table_oid: 1,
        policy_version: PolicyVersion(script.version),
        recheck_after: Duration::from_secs(600),
    }
}

fn asks(predicate: &Predicate) -> bool {
    *predicate == Predicate::Ask || matches!(predicate, Predicate::Or(parts) if parts.contains(&Predicate::Ask))
}

fn column(name: &str) -> Scalar {
    Scalar::Column { name: name.into(), type_oid: TEXT }
}

fn is(name: &str, value: &str) -> Predicate {
    let right = Scalar::Literal { type_oid: TEXT, text: Some(value.into()) };
    Predicate::Compare { operator: Comparator::Eq, left: column(name), right }
}

fn of(predicate: Predicate) -> RowPolicy {
    RowPolicy { predicate, sets: Vec::new(), check_key: Some("key".into()) }
}

/// Rows whose owner is in the rooms of the user.
fn by_membership() -> RowPolicy {
    RowPolicy { sets: vec![owners_in("members", 2, Predicate::Const(Truth::True))], ..of(has_owner()) }
}

/// The owners of a table's rows that satisfy a condition.
fn owners_in(table: &str, table_oid: u32, condition: Predicate) -> MemberSet {
    MemberSet {
        id: "s".into(),
        schema: "public".into(),
        table: table.into(),
        table_oid,
        keys: vec!["owner".into()],
        identity: vec!["id".into()],
        condition,
    }
}

/// Whether a row's owner is in the policy's set.
fn has_owner() -> Predicate {
    Predicate::Member { set: 0, values: vec![column("owner")], mode: MemberMode::Exists }
}

/// Rows whose owner is in a set, and of the others those that Postgres shows.
fn by_membership_or_postgres(set: MemberSet) -> RowPolicy {
    RowPolicy { sets: vec![set], ..of(Predicate::Or(vec![has_owner(), Predicate::Ask])) }
}

fn member_rows(owners: &[&str]) -> Members {
    let row = |owner: &&str| MemberRow { identity: vec![Some((*owner).into())], keys: vec![Some((*owner).into())] };
    Members::Rows(owners.iter().map(row).collect())
}

/// A table `(id text primary key, owner text)`.
fn relation(table: &str, table_oid: u32, row_security: bool) -> EncodedRelation {
    let column = |name: &str, key| Column {
        name: name.into(),
        type_oid: TEXT,
        type_mod: -1,
        primary_key: key,
        identity_key: key,
        collation: Collation::Bytes,
    };
    EncodedRelation::new(Arc::new(Relation {
        oid: table_oid,
        table_oid,
        schema: "public".into(),
        table: table.into(),
        columns: vec![column("id", true), column("owner", false)],
        identity: ReplicaIdentity::Default,
        row_security,
        types: BTreeMap::from([(TEXT, TypeInfo { name: "text".into(), kind: TypeKind::Builtin })]),
    }))
}

struct World {
    log: Arc<MemoryLog>,
    authorizer: Arc<Scripted>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    tenant: TenantId,
    stop: CancellationToken,
    next: AtomicUsize,
    /// The last sequence and position.
    written: Mutex<(u64, Position)>,
    epoch: AtomicU32,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn new(policy: RowPolicy) -> Self {
        Self::with_ring(policy, 1 << 20).await
    }

    async fn with_ring(policy: RowPolicy, ring_bytes: usize) -> Self {
        let tenant: TenantId = "acme".parse().expect("a name");
        let config = MemoryLogConfig { retention: SOON, max_bytes: 1 << 20, max_payload_bytes: 1 << 16 };
        let log = Arc::new(MemoryLog::new(config));
        log.open(&tenant).await.expect("opened");
        let script = Script {
            version: 1,
            row_security: false,
            policy,
            denies: false,
            members: member_rows(&[]),
            visible: BTreeSet::new(),
        };
        let (script, _) = watch::channel(script);
        let (is_away, judges) = (AtomicBool::new(false), watch::Sender::new(true));
        let authorizer =
            Arc::new(Scripted { script, is_away, takes: Mutex::default(), judges, asked: Mutex::default() });
        let metrics = Arc::new(Metrics::new(&reactor_runtime::Registry::default()));
        let matching =
            Arc::new(MatchSettings { org_column: "org".into(), max_payload_bytes: 1000, strict_deletes: false });
        let settings = FeedSettings { tenant: tenant.clone(), ring_bytes, matching };
        let feed = Feed::new(settings, Arc::clone(&log) as _, Arc::clone(&authorizer) as _, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&feed).run(stop.clone()));
        let world = Self {
            log,
            authorizer,
            feed,
            metrics,
            tenant,
            stop,
            next: AtomicUsize::new(1),
            written: Mutex::default(),
            epoch: AtomicU32::new(1),
        };
        world.write(&relation("notes", 1, false), &[("0", "nobody")]).await;
        world
    }

    /// Writes a transaction of inserts.
    async fn write(&self, relation: &EncodedRelation, rows: &[(&str, &str)]) {
        self.write_all(relation, &[rows], true).await;
    }

    /// Writes transactions of inserts in one batch; `ends`: whether that is all of the last.
    async fn write_all(&self, relation: &EncodedRelation, transactions: &[&[(&str, &str)]], ends: bool) {
        let (_, last) = *self.written.lock().expect("not poisoned");
        let mut builder = BatchBuilder::new(self.epoch(), last, Lsn(0), Some(relation));
        for (lsn, rows) in (last.lsn.0 + 1..).zip(transactions) {
            for (ordinal, (id, owner)) in (1..).zip(*rows) {
                let row = Tuple::from_values([id, owner].map(|text| Datum::Text(text.as_bytes())));
                let position = Position { lsn: Lsn(lsn), ordinal };
                builder.push(ChangeKind::Insert, position, 0, OldTuple::None, Some(row.as_bytes()));
            }
        }
        let last = builder.last();
        self.append(&relation.relation.table, builder.finish(ends), last).await;
    }

    /// Writes that the last transaction has ended.
    async fn write_end(&self) {
        let (_, last) = *self.written.lock().expect("not poisoned");
        let mark = BatchBuilder::new(self.epoch(), last, Lsn(0), None).finish_at(last);
        self.append("", mark, last).await;
    }

    async fn append(&self, table: &str, payload: bytes::Bytes, last: Position) {
        let (seq, _) = *self.written.lock().expect("not poisoned");
        let ack = self.log.append(&self.tenant, "public", table, payload, seq).await;
        let seq = ack.expect("taken").await.expect("stored");
        *self.written.lock().expect("not poisoned") = (seq, last);
        let newest = EventId { epoch: self.epoch(), position: last };
        let mut status = self.feed.status();
        status.wait_for(|status| status.head == Some(newest)).await.expect("it is read");
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// The event at the end of the transaction that was written as this one, counted from 1.
    fn after(&self, transaction: u64) -> EventId {
        EventId { epoch: self.epoch(), position: Position { lsn: Lsn(transaction), ordinal: 1 } }
    }

    async fn note(&self, id: &str, owner: &str) {
        self.write(&relation("notes", 1, false), &[(id, owner)]).await;
    }

    fn connect(&self) -> Reader {
        Self::read(self.connection(), Start::Now)
    }

    fn read(connection: Connection, start: Start) -> Reader {
        let outbox = Arc::clone(&connection.link.member.outbox);
        tokio::spawn(connection.run(start));
        Reader::of(outbox)
    }

    fn connection(&self) -> Connection {
        let outbox = Arc::new(Outbox::new(1 << 20));
        let principal = Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() };
        let subscriptions = vec![Subscription {
            name: None,
            events: EventMask::ALL,
            leave: false,
            request: AuthorizeRequest {
                tenant: self.tenant.clone(),
                principal: principal.clone(),
                schema: "public".into(),
                table: "notes".into(),
                select: Vec::new(),
                filter: Filter::And(Vec::new()),
            },
            org: ActiveOrg::Unscoped,
            grant: grant(&self.authorizer.script.borrow()),
            asks_instead: false,
        }];
        let member = Member {
            conn: ConnId(self.next.fetch_add(1, Ordering::SeqCst) as u64),
            outbox,
            ended: CancellationToken::new(),
            behind: Arc::default(),
            principal: Arc::new(principal.clone()),
            subscriptions: keys(&subscriptions),
            wire: Wire::Events,
        };
        let lane = lane(&subscriptions);
        let sets = self.feed.hold_sets(&member.subscriptions, lane);
        Connection {
            link: Link { member, lane, sets, feed: Arc::clone(&self.feed) },
            state: Standing::new(&subscriptions),
            subscriptions,
            identity: Identity { principal, orgs: None, expires_at: u64::MAX },
            heartbeat: SOON,
            drain: CancellationToken::new(),
            drain_window: Duration::ZERO,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// A connection that is live.
    async fn live(&self) -> Reader {
        let mut reader = self.connect();
        assert_eq!(reader.next().await.event, "ready");
        reader
    }
}

struct Reader {
    outbox: Arc<Outbox>,
    parser: SseParser,
    events: Vec<SseEvent>,
}

impl Reader {
    fn of(outbox: Arc<Outbox>) -> Self {
        Self { outbox, parser: SseParser::default(), events: Vec::new() }
    }

    async fn next(&mut self) -> SseEvent {
        let reading = async {
            while self.events.is_empty() {
                let chunk = std::future::poll_fn(|cx| self.outbox.poll_take(cx)).await.expect("the connection is open");
                self.events = self.parser.push(&chunk);
            }
            self.events.remove(0)
        };
        tokio::time::timeout(SOON, reading).await.expect("an event comes in time")
    }

    /// The id of the note that comes next.
    async fn note(&mut self) -> String {
        let event = self.next().await;
        assert_eq!(event.event, "insert", "{}", event.data);
        let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
        data["new"]["id"].as_str().expect("an id").to_owned()
    }

    /// The code with which the connection ends.
    async fn end(&mut self) -> String {
        let event = self.next().await;
        assert_eq!(event.event, "error", "{}", event.data);
        let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
        data["code"].as_str().expect("a code").to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_is_read_once_for_all_and_kept_from_then_on() {
    let world = World::new(by_membership()).await;
    world.authorizer.change(|script| script.members = member_rows(&["ann"]));
    let mut readers = [world.connect(), world.connect(), world.connect()];
    for reader in &mut readers {
        assert_eq!(reader.next().await.event, "ready");
    }
    assert_eq!(world.authorizer.counts()["members"], 1);
    world.note("1", "ann").await;
    world.note("2", "bob").await;
    world.write(&relation("members", 2, false), &[("x", "bob")]).await;
    world.note("3", "bob").await;
    for reader in &mut readers {
        assert_eq!((reader.note().await, reader.note().await), ("1".to_owned(), "3".to_owned()));
    }
    assert_eq!(world.authorizer.counts()["members"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_policy_reaches_open_connections_and_moves_them_between_lanes_without_loss() {
    let world = World::new(of(is("owner", "ann"))).await;
    let mut reader = world.live().await;
    world.note("1", "ann").await;
    assert_eq!(reader.note().await, "1");
    // To Postgres, to a set, and back.
    world.authorizer.change(|script| {
        script.policy = of(Predicate::Ask);
        script.visible = BTreeSet::from(["bob".to_owned()]);
    });
    let mut id = 2;
    id = until_note(&world, &mut reader, id, "bob").await;
    assert!(world.authorizer.counts()["check_rows"] > 0);
    world.authorizer.change(|script| {
        script.policy = by_membership();
        script.members = member_rows(&["carl"]);
    });
    id = until_note(&world, &mut reader, id, "carl").await;
    world.authorizer.change(|script| script.policy = of(is("owner", "dora")));
    id = until_note(&world, &mut reader, id, "dora").await;
    // Nothing in between was lost or came twice.
    world.note(&id.to_string(), "dora").await;
    assert_eq!(reader.note().await, id.to_string());
    world.authorizer.change(|script| script.denies = true);
    assert_eq!(reader.end().await, "permission_denied");
}

/// Writes notes until the first arrives; the id after the last.
async fn until_note(world: &World, reader: &mut Reader, mut id: usize, owner: &str) -> usize {
    let first = loop {
        world.note(&id.to_string(), owner).await;
        id += 1;
        tokio::select! {
            biased;
            note = reader.note() => break note,
            () = wait::elapse(Duration::from_millis(100), "one in ten is soon enough") => {}
        }
    };
    let first: usize = first.parse().expect("a number");
    for expected in first + 1..id {
        assert_eq!(reader.note().await, expected.to_string());
    }
    id
}

#[tokio::test(start_paused = true)]
async fn row_security_that_was_enabled_is_waited_for_and_never_passed_by() {
    let world = World::new(RowPolicy::everything()).await;
    let mut reader = world.live().await;
    world.note("1", "bob").await;
    let secured = relation("notes", 1, true);
    world.write(&secured, &[("2", "bob")]).await;
    assert_eq!(reader.note().await, "1");
    // Policy learns of it a moment later than the log.
    wait::elapse(Duration::from_secs(1), "policy looks once a second").await;
    world.write(&secured, &[("3", "ann")]).await;
    world.authorizer.change(|script| {
        script.row_security = true;
        script.policy = of(is("owner", "ann"));
    });
    assert_eq!(reader.note().await, "3");
    world.write(&secured, &[("4", "bob")]).await;
    world.write(&secured, &[("5", "ann")]).await;
    assert_eq!(reader.note().await, "5");
}

#[tokio::test(start_paused = true)]
async fn row_security_of_which_policy_never_learns_ends_the_connection() {
    let world = World::new(RowPolicy::everything()).await;
    let mut reader = world.live().await;
    world.write(&relation("notes", 1, true), &[("1", "bob")]).await;
    assert_eq!(reader.end().await, "schema_changed");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nothing_is_delivered_and_it_is_told_later() {
    let world = World::new(of(Predicate::Ask)).await;
    world.authorizer.change(|script| script.visible = BTreeSet::from(["ann".to_owned()]));
    let mut reader = world.live().await;
    world.note("1", "ann").await;
    world.note("2", "bob").await;
    assert_eq!(reader.note().await, "1");
    world.authorizer.is_away.store(true, Ordering::SeqCst);
    world.note("3", "ann").await;
    let withheld = || world.metrics.withheld.with_label_values(&["policy_unavailable"]).get();
    wait::until(SOON, "it is withheld", || async { Ok(withheld() > 0) }).await.expect("in time");
    world.authorizer.is_away.store(false, Ordering::SeqCst);
    let told = reader.next().await;
    assert!(told.event == "resync" && told.data.contains("policy_unavailable"), "{}", told.data);
    world.note("4", "ann").await;
    assert_eq!(reader.note().await, "4");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_too_large_is_asked_about_and_one_that_is_gone_is_decided_again() {
    let world = World::new(by_membership()).await;
    world.authorizer.change(|script| {
        script.members = Members::TooMany;
        script.visible = BTreeSet::from(["ann".to_owned()]);
    });
    let mut reader = world.live().await;
    world.note("1", "bob").await;
    world.note("2", "ann").await;
    assert_eq!(reader.note().await, "2");
    world.authorizer.change(|script| script.members = Members::Changed);
    let mut other = world.connect();
    wait::elapse(Duration::from_secs(1), "policy looks once a second").await;
    world.authorizer.change(|script| script.policy = of(is("owner", "ann")));
    let event = other.next().await;
    assert_eq!(event.event, "ready", "{}", event.data);
    world.note("3", "ann").await;
    assert_eq!(other.note().await, "3");
}

#[tokio::test(start_paused = true)]
async fn history_that_is_lost_while_rows_are_judged_takes_nothing_of_the_next_with_it() {
    let world = World::new(of(Predicate::Ask)).await;
    world.authorizer.change(|script| script.visible = BTreeSet::from(["ann".to_owned()]));
    let mut reader = world.live().await;
    world.authorizer.judges.send_replace(false);
    world.note("1", "ann").await;
    let is_asked = || async { Ok(world.authorizer.counts().contains_key("check_rows")) };
    wait::until(SOON, "it is asked about", is_asked).await.expect("in time");
    world.epoch.store(2, Ordering::SeqCst);
    world.note("2", "ann").await;
    world.note("3", "ann").await;
    world.authorizer.judges.send_replace(true);
    let told = reader.next().await;
    assert!(told.event == "resync" && told.data.contains("epoch_changed"), "{}", told.data);
    assert_eq!((reader.note().await, reader.note().await), ("2".to_owned(), "3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn frames_of_batches_that_end_alike_are_told_apart() {
    let world = World::new(RowPolicy::everything()).await;
    let at = |lsn| Position { lsn: Lsn(lsn), ordinal: 1 };
    let batch = |first: u64| {
        let mut builder = BatchBuilder::new(Epoch(1), at(first - 1), Lsn(0), Some(&relation("notes", 1, false)));
        for lsn in first..=12 {
            let row = Tuple::from_values([lsn.to_string().as_bytes(), b"hidden"].map(Datum::Text));
            builder.push(ChangeKind::Insert, at(lsn), 0, OldTuple::None, Some(row.as_bytes()));
        }
        Batch::decode(builder.finish(true), &RelationCache::default()).expect("own encoding")
    };
    let authorizer = Arc::clone(&world.authorizer) as Arc<dyn Authorizer>;
    for first in [12, 11, 10, 12] {
        // Each is another reader: what they share is the feed's.
        let mut replay = world.connection().link.replay();
        let frames = replay.frames(&batch(first), at(first - 1), &world.tenant, &authorizer).await.expect("judged");
        let count = SseParser::default().push(&frames).len() as u64;
        assert_eq!(count, 13 - first, "from {first}");
    }
    assert!(!format!("{:?}", world.feed.shared_frames()).contains("hidden"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_has_changed_before_it_is_watched_is_not_missed() {
    let world = World::new(RowPolicy::everything()).await;
    let connection = world.connection();
    world.authorizer.change(|script| script.denies = true);
    let mut version = world.feed.policy_version();
    version.wait_for(|version| *version == Some(PolicyVersion(2))).await.expect("it is seen");
    let mut reader = World::read(connection, Start::Now);
    assert_eq!(reader.next().await.event, "ready");
    assert_eq!(reader.end().await, "permission_denied");
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_leaves_the_lane() {
    let world = World::new(RowPolicy::everything()).await;
    let connection = world.connection();
    let (member, lane) = (connection.link.member.clone(), connection.link.lane);
    let serving = tokio::spawn(connection.run(Start::Now));
    let mut reader = Reader::of(Arc::clone(&member.outbox));
    assert_eq!(reader.next().await.event, "ready");
    serving.abort();
    assert!(serving.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(world.feed.leave(&member, lane), None, "it is not there any more");
}

#[tokio::test(start_paused = true)]
async fn what_neither_the_ring_nor_the_log_has_any_more_is_told() {
    let world = World::with_ring(RowPolicy::everything(), 1).await;
    for id in ["1", "2", "3"] {
        world.note(id, "ann").await;
    }
    wait::elapse(SOON + Duration::from_secs(1), "the log keeps nothing for longer").await;
    let mut reader = World::read(world.connection(), Start::After(world.after(2)));
    let told = reader.next().await;
    assert!(told.event == "resync" && told.data.contains("too_old"), "{}", told.data);
    assert_eq!(reader.next().await.event, "ready");
    world.note("4", "ann").await;
    assert_eq!(reader.note().await, "4");
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_a_full_queue_is_told_what_it_has_lost() {
    let world = World::new(RowPolicy::everything()).await;
    world.note("1", "ann").await;
    world.write(&relation("notes", 1, true), &[("2", "ann")]).await;
    let mut connection = world.connection();
    connection.link.member.outbox = Arc::new(Outbox::new(1));
    let mut reader = World::read(connection, Start::After(world.after(1)));
    assert_eq!(reader.next().await.event, "ready");
    // The note waits for the reader, who is away until it is given up that policy learns of the row-level security.
    let lost = || world.metrics.resyncs.with_label_values(&["schema_changed"]).get();
    wait::until(SOON, "it is lost", || async { Ok(lost() > 0) }).await.expect("in time");
    assert_eq!(reader.note().await, "1");
    let told = reader.next().await;
    assert!(told.event == "resync" && told.data.contains("schema_changed"), "{}", told.data);
    assert_eq!(reader.next().await.event, "ready");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_within_a_batch_is_waited_for() {
    let world = World::new(by_membership_or_postgres(owners_in("notes", 1, is("owner", "ann")))).await;
    world.authorizer.change(|script| {
        script.members = member_rows(&["ann"]);
        script.visible = BTreeSet::from(["bob".to_owned()]);
    });
    let mut reader = world.live().await;
    world.authorizer.judges.send_replace(false);
    world.write_all(&relation("notes", 1, false), &[&[("1", "ann")], &[("2", "bob")]], true).await;
    assert_eq!(reader.note().await, "1");
    let mut late = World::read(world.connection(), Start::After(world.after(1)));
    wait::elapse(Duration::from_secs(1), "the rest of the batch is being judged").await;
    world.authorizer.judges.send_replace(true);
    assert_eq!(reader.note().await, "2");
    assert_eq!(late.next().await.event, "ready");
    assert_eq!((late.note().await, late.note().await), ("1".to_owned(), "2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_slow_lane_sees_at_once_that_a_transaction_has_ended() {
    let world = World::new(by_membership_or_postgres(owners_in("members", 2, Predicate::Const(Truth::True)))).await;
    world.authorizer.change(|script| script.members = member_rows(&["ann"]));
    let mut reader = world.live().await;
    world.write_all(&relation("notes", 1, false), &[&[("1", "ann")]], false).await;
    wait::elapse(Duration::from_millis(1), "the lane takes what there is").await;
    world.write_end().await;
    assert_eq!(reader.note().await, "1");
}

#[tokio::test(start_paused = true)]
async fn the_patience_with_a_lane_begins_when_it_is_waited_for() {
    let world = World::new(RowPolicy::everything()).await;
    let connection = world.connection();
    let mut catch_up = CatchUp::after(world.after(2), None, &connection.link);
    wait::elapse(Duration::from_secs(60), "its reader is slow").await;
    let (ended, ()) = tokio::join!(catch_up.run(&connection.link), async {
        wait::elapse(Duration::from_secs(5), "the lane is behind").await;
        world.note("1", "ann").await;
    });
    assert_eq!(ended, Ok(CaughtUp::Joined));
    let mut catch_up = CatchUp::after(world.after(3), None, &connection.link);
    assert_eq!(catch_up.run(&connection.link).await, Ok(CaughtUp::Lost("ahead")));
}

#[tokio::test(start_paused = true)]
async fn history_is_judged_by_the_decision_that_stands() {
    let world = World::new(of(is("owner", "ann"))).await;
    world.note("1", "ann").await;
    world.note("2", "bob").await;
    let mut connection = world.connection();
    let mut catch_up = CatchUp::after(world.after(1), None, &connection.link);
    world.authorizer.change(|script| script.policy = of(is("owner", "bob")));
    connection.subscriptions[0].grant = grant(&world.authorizer.script.borrow());
    connection.settle(&mut Phase::Opening(Start::Now));
    assert_eq!(catch_up.run(&connection.link).await, Ok(CaughtUp::Joined));
    assert_eq!(Reader::of(Arc::clone(&connection.link.member.outbox)).note().await, "2");
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_about_a_policy_stands_for_as_long_as_the_policy() {
    let world = World::new(by_membership()).await;
    let mut connection = world.connection();
    connection.subscriptions[0].asks_instead = true;
    let decided = |policy: RowPolicy| {
        world.authorizer.change(|script| script.policy = policy);
        world.connection().subscriptions
    };
    connection.take(decided(by_membership()));
    assert!(connection.subscriptions[0].asks_instead);
    connection.take(decided(of(is("owner", "ann"))));
    assert!(!connection.subscriptions[0].asks_instead);
}

#[tokio::test(start_paused = true)]
async fn decisions_of_a_connection_are_asked_again_together() {
    let world = World::new(RowPolicy::everything()).await;
    let mut connection = world.connection();
    connection.subscriptions = vec![connection.subscriptions[0].clone(); 10];
    *world.authorizer.takes.lock().expect("not poisoned") = Duration::from_secs(1);
    let begun = reactor_runtime::clock::now();
    assert_eq!(connection.recheck().await, Ok(true));
    assert!(reactor_runtime::clock::now() - begun < Duration::from_secs(2));
}
