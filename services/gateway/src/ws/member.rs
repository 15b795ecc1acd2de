//! A channel of one connection: what it holds, and the questions that are asked on its behalf.

use std::sync::Arc;
use std::time::Duration;

use reactor_policy_engine::{
    AuthorizerError, ChannelAccess, ChannelRequest, ChannelRights, Principal, ReplayRequest, StoredPayload,
};
use reactor_protocol::audience::Audience;
use reactor_protocol::broadcast::{Encoding, Origin};
use reactor_protocol::presence::Meta;
use reactor_protocol::replay::{ReplayGate, StoredBroadcast};
use reactor_protocol::session::{
    Access, Authorize, ChannelId, ChannelName, Grant, JoinBroadcast, JoinChanges, JoinPresence, Replay, ReplayRefused,
    Rights, Token,
};
use reactor_protocol::texts::JoinRefusal;
use reactor_runtime::clock;
use reactor_runtime::metrics::IntGauge;

use super::changes::Changes;
use super::identify;
use super::inbox::{Port, Told};
use super::topics::{Hold, Listener, Watcher};
use crate::auth::Identity;
use crate::transport::App;

/// How long a join waits for its channel to be followed.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(8);
/// How often rights are asked for again while there is no answer, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long a channel that is joined stays as it is while nobody says what its client may do now.
const RECHECK_PATIENCE: Duration = Duration::from_secs(60);

/// A channel, joined or being joined. What it has a part in ends when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: ChannelId,
    name: ChannelName,
    origin: Origin,
    identity: Option<Arc<Identity>>,
    hold: Option<Hold>,
    listens: Option<Audience>,
    attends: Option<Audience>,
    changes: Option<Changes>,
    gauge: IntGauge,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.gauge.dec();
        let Some(hold) = &self.hold else { return };
        if let Some(audience) = &self.listens {
            hold.unlisten(self.origin, audience);
        }
        if let Some(audience) = &self.attends {
            hold.unattend(self.origin, audience);
        }
    }
}

impl Member {
    pub(super) fn new(id: ChannelId, session: u64, name: ChannelName, gauge: IntGauge) -> Self {
        gauge.inc();
        let origin = Origin { session, channel: id.0 };
        let (identity, hold, listens, attends, changes) = (None, None, None, None, None);
        Self { id, name, origin, identity, hold, listens, attends, changes, gauge }
    }

    /// Whether policies decide who may read and write.
    pub(super) fn is_private(&self) -> bool {
        self.name.private && self.identity.is_some()
    }

    /// A token was found good.
    pub(super) fn admit(&mut self, identity: Arc<Identity>, hold: Hold) {
        self.identity = Some(identity);
        self.hold.get_or_insert(hold);
    }

    /// Has broadcasts delivered.
    pub(super) fn listen(&mut self, app: &Arc<App>, port: &Arc<Port>, join: JoinBroadcast) {
        let Some(hold) = &self.hold else { return };
        let gate = join.replay.is_some().then(|| Box::new(ReplayGate::default()));
        let listener = Listener { port: Arc::clone(port), channel: self.id, own: join.own, gate, is_lost: false };
        hold.listen(self.origin, &join.audience, listener);
        self.listens = Some(join.audience);
        if let Some(replay) = join.replay {
            read_past(app, port, self.id, &self.name, replay);
        }
    }

    /// The past was delivered.
    pub(super) fn open(&self, replayed: Vec<String>) {
        if let (Some(hold), Some(audience)) = (&self.hold, &self.listens) {
            hold.open(self.origin, audience, replayed);
        }
    }

    /// Has presences told.
    pub(super) fn attend(&mut self, port: &Arc<Port>, join: JoinPresence) {
        let Some(hold) = &self.hold else { return };
        hold.watch();
        let watcher = Watcher { port: Arc::clone(port), join_ref: join.join_ref, state: join.state };
        hold.attend(self.origin, &join.audience, watcher);
        self.attends = Some(join.audience);
    }

    pub(super) fn track(&self, origin: Origin, key: &str, meta: &Meta) {
        if let Some(hold) = &self.hold {
            hold.track(origin, key, meta);
        }
    }

    pub(super) fn untrack(&self, origin: Origin) {
        if let Some(hold) = &self.hold {
            hold.untrack(origin);
        }
    }

    /// Has row changes delivered.
    pub(super) fn join_changes(
        &mut self,
        app: &Arc<App>,
        port: &Arc<Port>,
        org: Option<String>,
        join: JoinChanges<Arc<Identity>>,
    ) {
        match &self.changes {
            Some(changes) if join.again => changes.ask_again(join.identity),
            _ => self.changes = Some(Changes::begin(app, port, org, join)),
        }
    }

    pub(super) fn start_changes(&self) {
        if let Some(changes) = &self.changes {
            changes.start();
        }
    }
}

/// Asks on behalf of a connection's channels. Answers come to its port.
pub(super) struct Asker<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) port: &'a Arc<Port>,
    pub(super) headers: &'a Arc<str>,
}

impl Asker<'_> {
    /// Decides on a join of a public channel that is being followed, with a token that is known; else asks.
    pub(super) fn at_once(&self, ask: &Authorize, identity: Option<Arc<Identity>>) -> Option<(Arc<Identity>, Hold)> {
        let hold = self.app.topics.hold(&ask.name);
        match identity {
            Some(identity) if !ask.name.private && hold.is_followed() => Some((identity, hold)),
            identity => {
                self.ask(ask, identity, hold);
                None
            }
        }
    }

    fn ask(&self, ask: &Authorize, identity: Option<Arc<Identity>>, hold: Hold) {
        let (app, port) = (Arc::clone(self.app), Arc::clone(self.port));
        let (request, channel, name) = (ask.request, ask.channel, ask.name.clone());
        let token = ask.token.as_ref().map(|token| identify::trimmed(token.expose()));
        let headers = Arc::clone(self.headers);
        tokio::spawn(async move {
            let deciding = decide(&app, token.as_deref(), identity, &name, &headers);
            let following = tokio::time::timeout(FOLLOW_DEADLINE, hold.follow());
            let (decided, followed) = tokio::join!(deciding, following);
            let decision = match followed {
                Ok(()) => decided.map(|grant| (grant, hold.clone())),
                Err(_) => Err(JoinRefusal::Initializing),
            };
            port.tell(Told::Decided(request, channel, decision));
        });
    }

    /// Verifies a token again that joined channels have. While nobody can say, they stay as they are.
    pub(super) fn verify(&self, token: Token) {
        let (app, port) = (Arc::clone(self.app), Arc::clone(self.port));
        tokio::spawn(async move {
            let text = identify::trimmed(token.expose());
            let Err(error) = identify::verify(&app.verifier, &text).await else { return };
            match identify::refusal(&error, &text) {
                JoinRefusal::Token(why) => port.tell(Told::TokenRefused(token, why)),
                _ => tracing::debug!(%error, "nobody says whether a token is still good"),
            }
        });
    }

    /// Asks what a private channel's client may do now.
    pub(super) fn recheck(&self, member: &Member) {
        let Some(identity) = member.identity.clone() else { return };
        let (app, port, headers) = (Arc::clone(self.app), Arc::clone(self.port), Arc::clone(self.headers));
        let (channel, name) = (member.id, member.name.clone());
        tokio::spawn(async move {
            let mut answer = rights(&app, &identity.principal, &name, &headers).await;
            let given_up = clock::now() + RECHECK_PATIENCE;
            while answer.is_err() && clock::now() < given_up {
                answer = rights(&app, &identity.principal, &name, &headers).await;
            }
            match answer {
                Ok(rights) => port.tell(Told::Rights(channel, Some(rights))),
                Err(error) => {
                    tracing::debug!(%error, "nobody says who may read a channel: it is closed");
                    port.tell(Told::Rights(channel, None));
                }
            }
        });
    }

    /// Tells when the changes of the database are being followed.
    pub(super) fn await_feed(&self, channel: ChannelId) {
        let (port, mut status) = (Arc::clone(self.port), self.app.feed.status());
        tokio::spawn(async move {
            if status.wait_for(|status| status.following && status.is_live()).await.is_ok() {
                port.tell(Told::Following(channel));
            }
        });
    }
}

async fn decide(
    app: &App,
    token: Option<&str>,
    identity: Option<Arc<Identity>>,
    name: &ChannelName,
    headers: &str,
) -> Result<Grant<Arc<Identity>>, JoinRefusal> {
    let identity = match (token, identity) {
        (_, Some(identity)) => identity,
        (token, None) => {
            let token = token.unwrap_or_default();
            let verified = identify::verify(&app.verifier, token).await;
            Arc::new(verified.map_err(|error| identify::refusal(&error, token))?)
        }
    };
    let rights = if name.private {
        rights(app, &identity.principal, name, headers).await.map_err(|error| match error {
            AuthorizerError::UnknownTenant => JoinRefusal::TenantUnknown,
            AuthorizerError::Timeout => JoinRefusal::QueryCanceled,
            AuthorizerError::Unavailable(_) => JoinRefusal::Unreachable,
        })?
    } else {
        Rights::ALL
    };
    let expires = Duration::from_secs(identity.expires_at);
    Ok(Grant { identity, expires, rights })
}

/// What a principal may do in a private channel.
pub(super) async fn rights(
    app: &App,
    principal: &Principal,
    name: &ChannelName,
    headers: &str,
) -> Result<Rights, AuthorizerError> {
    let request = ChannelRequest {
        tenant: app.feed.tenant().clone(),
        principal: principal.clone(),
        topic: name.name.to_string(),
        headers_json: headers.to_owned(),
    };
    let mut attempt = 1;
    loop {
        match app.feed.authorizer().channel_rights(request.clone()).await {
            Ok(ChannelRights { broadcast, presence, .. }) => {
                return Ok(Rights { broadcast: access(broadcast), presence: access(presence) });
            }
            Err(error) if attempt >= ATTEMPTS => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        attempt += 1;
    }
}

fn access(access: ChannelAccess) -> Access {
    Access { read: access.read, write: access.write }
}

fn read_past(app: &Arc<App>, port: &Arc<Port>, channel: ChannelId, name: &ChannelName, replay: Replay) {
    let (app, port, topic) = (Arc::clone(app), Arc::clone(port), name.name.to_string());
    tokio::spawn(async move {
        let tenant = app.feed.tenant().clone();
        let request = ReplayRequest { tenant, topic, since_ms: replay.since_ms, limit: replay.limit };
        let rows = match app.feed.authorizer().replay(request).await {
            Ok(rows) => Ok(rows.into_iter().map(stored).collect()),
            Err(error) => {
                tracing::debug!(%error, "the past of a channel cannot be read");
                Err(ReplayRefused)
            }
        };
        port.tell(Told::Replayed(channel, rows));
    });
}

fn stored(message: reactor_policy_engine::StoredMessage) -> StoredBroadcast {
    let (encoding, payload) = match message.payload {
        StoredPayload::Json(text) => (Encoding::Json, text.into()),
        StoredPayload::Binary(bytes) => (Encoding::Binary, bytes.into()),
    };
    StoredBroadcast { id: message.id, event: message.event.into(), encoding, payload }
}
