//! Row changes of one channel: decided, brought up, live, and kept allowed. The phases are those of [`crate::connection`]; what is
//! told beside changes is told by the connection's session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reactor_model::filter::Filter;
use reactor_model::{Code, EventId};
use reactor_policy_engine::{AuthorizeRequest, Denial, PublishedTable, TablesRequest};
use reactor_protocol::audience::Audience;
use reactor_protocol::session::{ChangeBinding, ChangesRefusal, ChannelId, JoinChanges};
use reactor_runtime::clock;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::database::MESSAGES;
use super::inbox::{Port, Told};
use crate::auth::{ActiveOrg, Identity, active_org};
use crate::catch_up::CatchUp;
use crate::connection::{CONCURRENT_DECISIONS, Connection, Phase, RECHECK_PAUSE, about, version_spread};
use crate::error::ApiError;
use crate::hub::{EventMask, SocketWire, Wire};
use crate::subscription::Subscription;
use crate::transport::App;

/// Pause before a subscription that failed is made again.
const RETRY: Duration = Duration::from_secs(5);
/// Tables of one channel.
const MAX_TABLES: usize = 1000;

/// What the session wants of a channel's row changes.
#[derive(Clone, Debug)]
struct Wish {
    identity: Arc<Identity>,
    /// Counts the questions; each is answered.
    asked: u64,
    /// Counts the permissions to deliver.
    started: u64,
}

/// The row changes of one channel. They end when this is dropped.
#[derive(Debug)]
pub struct Changes {
    wish: watch::Sender<Wish>,
    _stop: DropGuard,
}

impl Changes {
    /// Begins; answers with [`Told::Changes`].
    #[must_use]
    pub fn begin(app: &Arc<App>, port: &Arc<Port>, org: Option<String>, join: JoinChanges<Arc<Identity>>) -> Self {
        let (wish, wished) = watch::channel(Wish { identity: join.identity, asked: 1, started: 0 });
        let stop = CancellationToken::new();
        let subscriber = Subscriber {
            app: Arc::clone(app),
            port: Arc::clone(port),
            channel: join.channel,
            audience: join.audience,
            bindings: join.bindings,
            org,
            wished,
            answering: 0,
            start: join.since.map_or(Start::Now, |since| since.parse().map_or(Start::Lost("unknown_id"), Start::After)),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(subscriber.run()));
        Self { wish, _stop: stop.drop_guard() }
    }

    /// Asks again for somebody else.
    pub fn ask_again(&self, identity: Arc<Identity>) {
        self.wish.send_modify(|wish| {
            wish.identity = identity;
            wish.asked += 1;
        });
    }

    /// Lets delivery begin.
    pub fn start(&self) {
        self.wish.send_modify(|wish| wish.started += 1);
    }
}

/// Where delivery begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// With what commits after now.
    Now,
    /// After this event.
    After(EventId),
    /// What lies between is lost, and the client is told why.
    Lost(&'static str),
}

/// Why a channel has no row changes now.
enum Ended {
    /// It is told this, and nothing more is tried before it asks again.
    Refused(String),
    /// It is told this, and it is tried again.
    Failed(String),
    /// Somebody else asks.
    Asked,
}

struct Subscriber {
    app: Arc<App>,
    port: Arc<Port>,
    channel: ChannelId,
    audience: Audience,
    bindings: Arc<[ChangeBinding]>,
    org: Option<String>,
    wished: watch::Receiver<Wish>,
    start: Start,
    /// The question that was answered last, or is about to be.
    answering: u64,
}

/// What a channel is subscribed to, with the ids of the bindings that asked for it.
struct Decided {
    subscriptions: Vec<Subscription>,
    ids: Box<[u32]>,
}

impl Subscriber {
    async fn run(mut self) {
        loop {
            let (message, retrying) = match Box::pin(self.attempt()).await {
                Ended::Asked => continue,
                Ended::Refused(message) => (message, false),
                Ended::Failed(message) => (message, true),
            };
            tracing::debug!(retrying, "row changes cannot be delivered to a channel");
            self.port.tell(Told::Changes(self.channel, Err(ChangesRefusal { message, retrying })));
            let answered = self.answering;
            let again = self.wished.wait_for(|wish| wish.asked != answered);
            if retrying {
                let _ = tokio::time::timeout(about(RETRY), again).await;
            } else if again.await.is_err() {
                return;
            }
        }
    }

    /// Serves the channel until it cannot be, or somebody else asks before it is served.
    async fn attempt(&mut self) -> Ended {
        let Wish { identity, asked, started } = self.wished.borrow_and_update().clone();
        self.answering = asked;
        let decided = match self.decide(&identity).await {
            Ok(decided) => decided,
            Err(ended) => return ended,
        };
        let mut connection = self.connection(&identity, decided);
        if connection.wait_for_feed().await.is_err() {
            return Ended::Failed("Realtime is initializing the project connection".to_owned());
        }
        let Some(head) = connection.link.feed.head(connection.link.lane) else {
            return Ended::Failed("Realtime is initializing the project connection".to_owned());
        };
        let (mut phase, lost) = match self.start {
            Start::Now => (Self::after(head, &connection), None),
            Start::After(id) => (Self::after(id, &connection), None),
            Start::Lost(reason) => (Phase::Lost(reason), Some(reason)),
        };
        self.port.tell(Told::Changes(self.channel, Ok(())));
        match self.wished.wait_for(|wish| wish.asked != asked || wish.started != started).await {
            Ok(wish) if wish.asked == asked => {}
            _ => return Ended::Asked,
        }
        // What is lost from here on, the client is told of.
        self.start = Start::Lost("subscription_failed");
        if let Some(reason) = lost {
            self.resync(reason).await;
            phase = Self::after(head, &connection);
        }
        self.serve(&mut connection, &mut phase).await
    }

    fn after(id: EventId, connection: &Connection) -> Phase {
        Phase::CatchingUp { catch_up: Box::new(CatchUp::after(id, None, &connection.link)), left_behind: false }
    }

    /// Has the client told that changes were lost.
    async fn resync(&self, reason: &'static str) {
        self.app.metrics.resyncs.with_label_values(&[reason]).inc();
        let (done, told) = oneshot::channel();
        self.port.tell(Told::Resync(self.channel, reason, done));
        let _ = told.await;
    }

    /// Brings the channel into its lane and keeps it allowed. Sources, in priority: its membership was ended; the session asks for
    /// somebody else; policies have changed; a decision must be asked again; the fan-out left it behind; it is brought up.
    async fn serve(&mut self, connection: &mut Connection, phase: &mut Phase) -> Ended {
        let ended = connection.link.member.ended.clone();
        let behind = Arc::clone(&connection.link.member.behind);
        let mut version = connection.watched_version();
        let mut recheck_at = clock::now() + connection.recheck_in();
        let mut wished = self.wished.clone();
        loop {
            let answered = self.answering;
            if let Phase::Lost(reason) = *phase {
                let Some(head) = connection.link.feed.head(connection.link.lane) else {
                    return Ended::Failed(ApiError::of(Code::NotReady).message);
                };
                self.resync(reason).await;
                *phase = Self::after(head, connection);
            }
            let live = matches!(phase, Phase::Live);
            tokio::select! {
                biased;
                () = ended.cancelled() => return self.failed(behind.refusal()),
                changed = wait_for_question(&mut wished, answered) => {
                    let Some(wish) = changed else { return Ended::Asked };
                    self.answering = wish.asked;
                    connection.identity = Identity::clone(&wish.identity);
                    connection.link.member.principal = Arc::new(wish.identity.principal.clone());
                    match self.redecide(connection, phase).await {
                        Ok(()) => self.port.tell(Told::Changes(self.channel, Ok(()))),
                        Err(ended) => return ended,
                    }
                    recheck_at = clock::now() + connection.recheck_in();
                }
                Ok(()) = version.changed() => recheck_at = recheck_at.min(clock::now() + version_spread()),
                () = tokio::time::sleep_until(recheck_at.into()) => match self.redecide(connection, phase).await {
                    Ok(()) => recheck_at = clock::now() + connection.recheck_in(),
                    Err(Ended::Failed(_)) if connection.state.is_good() => recheck_at = clock::now() + about(RECHECK_PAUSE),
                    Err(ended) => return ended,
                },
                left = behind.wait(), if live => *phase = connection.left_behind(left),
                next = connection.advance(phase), if !live => match next {
                    Ok(next) => *phase = next,
                    Err(error) => return self.failed(Some(&error)),
                },
            }
        }
    }

    fn failed(&self, error: Option<&ApiError>) -> Ended {
        match error {
            Some(error) if error.code == Code::SlowConsumer => {
                self.port.tell(Told::Slow);
                Ended::Failed(error.message.clone())
            }
            Some(error) if error.code == Code::PermissionDenied => Ended::Refused(error.message.clone()),
            Some(error) => Ended::Failed(error.message.clone()),
            None => Ended::Failed(ApiError::of(Code::NotReady).message),
        }
    }

    /// Asks for every decision again and puts the answers in force.
    async fn redecide(&self, connection: &mut Connection, phase: &mut Phase) -> Result<(), Ended> {
        let Decided { subscriptions, ids } = self.decide(&connection.identity).await?;
        connection.take(subscriptions);
        connection.link.member.wire = self.wire(ids);
        connection.settle(phase);
        Ok(())
    }

    fn wire(&self, ids: Box<[u32]>) -> Wire {
        let (audience, compression) = (self.audience.clone(), self.port.compression);
        Wire::Socket(Arc::new(SocketWire { audience, ids, compression }))
    }

    fn connection(&self, identity: &Identity, decided: Decided) -> Connection {
        let Decided { subscriptions, ids } = decided;
        self.app.connection(identity.clone(), subscriptions, Arc::clone(&self.port.outbox), self.wire(ids))
    }

    /// Decides on every binding; those for `*` on each table that is published and may be read.
    async fn decide(&self, identity: &Identity) -> Result<Decided, Ended> {
        let Ok(org) = active_org(identity.orgs.as_deref(), self.org.as_deref()) else {
            return Err(Ended::Refused(ApiError::of(Code::OrgForbidden).message));
        };
        let (mut subscriptions, mut ids) = (Vec::new(), Vec::new());
        let mut published = HashMap::new();
        for binding in self.bindings.iter() {
            let decided = if is_wildcard(binding) {
                self.decide_wildcard(binding, identity, &org, &mut published).await?
            } else {
                let table = PublishedTable { schema: binding.schema.clone(), table: binding.table.clone() };
                vec![
                    self.authorize(binding, table, identity, &org)
                        .await?
                        .map_err(|denial| refused(binding, &denial))?,
                ]
            };
            ids.extend(decided.iter().map(|_| binding.id));
            subscriptions.extend(decided);
            if subscriptions.len() > MAX_TABLES {
                return Err(Ended::Refused(format!("Too many tables in one channel. Maximum {MAX_TABLES}")));
            }
        }
        Ok(Decided { subscriptions, ids: ids.into() })
    }

    async fn decide_wildcard(
        &self,
        binding: &ChangeBinding,
        identity: &Identity,
        org: &ActiveOrg,
        published: &mut HashMap<TablesRequest, Vec<PublishedTable>>,
    ) -> Result<Vec<Subscription>, Ended> {
        let named = |name: &String| Some(name.clone()).filter(|name| name != "*");
        let request = TablesRequest {
            tenant: self.app.feed.tenant().clone(),
            schema: named(&binding.schema),
            table: named(&binding.table),
        };
        let tables = match published.get(&request) {
            Some(tables) => tables.clone(),
            None => {
                let tables =
                    self.app.feed.authorizer().tables(request.clone()).await.map_err(|error| no_answer(&error))?;
                published.insert(request, tables.clone());
                tables
            }
        };
        // That of stored broadcasts is not meant.
        let is_meant = |table: &PublishedTable| (table.schema.as_str(), table.table.as_str()) != MESSAGES;
        let (mut decided, mut denial) = (Vec::new(), None);
        let tables = tables.into_iter().filter(is_meant).take(MAX_TABLES + 1);
        let asking = tables.map(|table| self.authorize(binding, table, identity, org));
        let mut answers = Box::pin(futures::stream::iter(asking).buffered(CONCURRENT_DECISIONS));
        while let Some(answer) = answers.next().await {
            match answer? {
                Ok(subscription) => decided.push(subscription),
                Err(denied) => denial = Some(denied),
            }
        }
        match denial {
            _ if !decided.is_empty() => Ok(decided),
            Some(denial) => Err(refused(binding, &denial)),
            None => Err(Ended::Refused(binding.not_enabled())),
        }
    }

    async fn authorize(
        &self,
        binding: &ChangeBinding,
        table: PublishedTable,
        identity: &Identity,
        org: &ActiveOrg,
    ) -> Result<Result<Subscription, Denial>, Ended> {
        let request = AuthorizeRequest {
            tenant: self.app.feed.tenant().clone(),
            principal: identity.principal.clone(),
            schema: table.schema,
            table: table.table,
            select: binding.select.clone(),
            filter: Filter::clone(&binding.filter),
        };
        let events = binding.event.map_or(EventMask::ALL, EventMask::only);
        let subscribed = self.app.subscribe(request, None, events, binding.leave, org).await;
        subscribed.map_err(|error| no_answer(&error))
    }
}

async fn wait_for_question(wished: &mut watch::Receiver<Wish>, answered: u64) -> Option<Wish> {
    wished.wait_for(|wish| wish.asked != answered).await.ok().map(|wish| wish.clone())
}

fn is_wildcard(binding: &ChangeBinding) -> bool {
    binding.schema == "*" || binding.table == "*"
}

fn no_answer(error: &reactor_policy_engine::AuthorizerError) -> Ended {
    tracing::debug!(%error, "row changes cannot be decided on yet");
    Ended::Failed("Realtime was unable to connect to the project database".to_owned())
}

/// A denial in this protocol's words.
fn refused(binding: &ChangeBinding, denial: &Denial) -> Ended {
    let unknown = binding.filter.conditions().into_iter().find(|condition| {
        denial.code == Code::BadFilter && denial.message.starts_with(&format!("unknown column `{}`", condition.column))
    });
    Ended::Refused(match unknown {
        _ if denial.code == Code::TableUnknown => binding.not_enabled(),
        Some(condition) => binding.exception(&format!("invalid column for filter {}", condition.column)),
        None => binding.exception(&denial.message),
    })
}
