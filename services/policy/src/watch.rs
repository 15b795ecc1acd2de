//! The version of everything in the catalog that decisions depend on, read every second and whenever the database tells
//! of a change.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use reactor_pg::{Client, PgError, PgTarget, connect_listening};
use reactor_policy_engine::PolicyVersion;
use reactor_runtime::{Backoff, clock};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

/// How often the catalog is looked at. A change is known within this and the time of one query.
const INTERVAL: Duration = Duration::from_secs(1);

/// A version that was read so long ago may have been followed by another one.
const FRESH: Duration = Duration::from_millis(1_500);

/// Delays between attempts to connect grow from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a reading may take before the connection is taken for lost.
const READING_DEADLINE: Duration = Duration::from_secs(5);

/// What is known of the version.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Nothing yet.
    Connecting,
    /// It was this one then. Sent anew with each reading.
    Read(PolicyVersion, std::time::Instant),
    /// Nothing any more.
    Lost,
}

/// Watches until it is dropped.
pub(crate) struct Watch {
    known: watch::Receiver<Known>,
    _stop: DropGuard,
}

/// What is done when there is another version, before anyone is told of it.
pub(crate) type OnChange = Arc<dyn Fn() + Send + Sync>;

impl Watch {
    /// Begins to watch. Must be called within a runtime.
    pub(crate) fn start(target: PgTarget, event_trigger: bool, on_change: OnChange) -> Self {
        let (sender, known) = watch::channel(Known::Connecting);
        let stop = CancellationToken::new();
        let watching = supervise(target, event_trigger, on_change, sender);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        Self { known, _stop: stop.drop_guard() }
    }

    /// The version, if it was read a moment ago.
    pub(crate) fn fresh(&self) -> Option<PolicyVersion> {
        match *self.known.borrow() {
            Known::Read(version, at) if clock::now().saturating_duration_since(at) <= FRESH => Some(version),
            Known::Read(..) | Known::Connecting | Known::Lost => None,
        }
    }

    /// Each reading, until the connection is lost.
    pub(crate) fn versions(&self) -> BoxStream<'static, PolicyVersion> {
        let readings = WatchStream::new(self.known.clone());
        readings
            .take_while(|known| std::future::ready(!matches!(known, Known::Lost)))
            .filter_map(|known| {
                std::future::ready(match known {
                    Known::Read(version, _) => Some(version),
                    Known::Connecting | Known::Lost => None,
                })
            })
            .boxed()
    }
}

async fn supervise(target: PgTarget, event_trigger: bool, on_change: OnChange, sender: watch::Sender<Known>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut last = None;
    loop {
        let result = async {
            let (client, mut news) = connect_listening(&target, "reactor-policy watch").await?;
            listen(&client, event_trigger).await?;
            backoff.reset();
            read_on(&client, &mut news, &mut last, &on_change, &sender).await
        };
        if let Err(error) = result.boxed().await {
            if !matches!(*sender.borrow(), Known::Lost) {
                warn!(%error, "policies are not watched");
            }
            sender.send_replace(Known::Lost);
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn listen(client: &Client, event_trigger: bool) -> Result<(), PgError> {
    client.batch_execute("listen reactor_policy").await?;
    if !event_trigger {
        return Ok(());
    }
    // Without it changes are noticed a second later, which is no reason not to go on.
    match client.batch_execute(EVENT_TRIGGER).await {
        Ok(()) => debug!("the event trigger is in place"),
        Err(error) => warn!(error = %PgError::from(error), "the event trigger cannot be put into the database"),
    }
    Ok(())
}

async fn read_on(
    client: &Client,
    news: &mut mpsc::Receiver<()>,
    last: &mut Option<PolicyVersion>,
    on_change: &OnChange,
    sender: &watch::Sender<Known>,
) -> Result<(), PgError> {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            told = news.recv() => {
                if told.is_none() {
                    let lost = "the connection to Postgres was lost";
                    return Err(PgError::new(reactor_pg::PgErrorKind::Unreachable, lost));
                }
            }
            _ = tick.tick() => {}
        }
        let began = clock::now();
        let version = match tokio::time::timeout(READING_DEADLINE, version(client)).await {
            Ok(version) => version?,
            Err(_) => {
                return Err(PgError::new(reactor_pg::PgErrorKind::Timeout, "the catalog could not be read in time"));
            }
        };
        if *last != Some(version) {
            if last.is_some() {
                info!("policies, grants or roles have changed");
            }
            on_change();
            *last = Some(version);
        }
        sender.send_replace(Known::Read(version, began));
    }
}

/// The version now.
pub(crate) async fn version(client: &Client) -> Result<PolicyVersion, PgError> {
    let row = client.query_typed_one(VERSION, &[]).await?;
    let version: i64 = row.try_get(0)?;
    Ok(PolicyVersion(version.cast_unsigned()))
}

/// A hash over what decisions are made from. Where a row changes for other reasons as well (statistics, a rewritten file),
/// its columns are taken, else the transaction that wrote it. Sums do not depend on the order of rows.
const VERSION: &str = "
select pg_catalog.hashtextextended(pg_catalog.concat_ws('/',
  (select sum(pg_catalog.hashtextextended(row(p.oid, p.xmin)::text, 1)) from pg_catalog.pg_policy p),
  (select sum(pg_catalog.hashtextextended(row(c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, c.relacl,
              c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition)::text, 2))
     from pg_catalog.pg_class c
    where c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace),
  (select sum(pg_catalog.hashtextextended(row(a.attrelid, a.attnum, a.xmin)::text, 3))
     from pg_catalog.pg_attribute a
    where a.attrelid >= 16384 and a.attnum > 0
      and (a.attacl is not null
           or a.attrelid in (select p.polrelid from pg_catalog.pg_policy p
                             union select r.prrelid from pg_catalog.pg_publication_rel r))),
  (select sum(pg_catalog.hashtextextended(row(m.roleid, m.member, m.xmin)::text, 4)) from pg_catalog.pg_auth_members m),
  (select sum(pg_catalog.hashtextextended(row(r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls)::text, 5))
     from pg_catalog.pg_roles r),
  (select sum(pg_catalog.hashtextextended(row(s.setdatabase, s.setrole, s.xmin)::text, 6))
     from pg_catalog.pg_db_role_setting s),
  (select sum(pg_catalog.hashtextextended(row(p.oid, p.xmin)::text, 7)) from pg_catalog.pg_proc p where p.oid >= 16384),
  (select sum(pg_catalog.hashtextextended(row(n.oid, n.xmin)::text, 8)) from pg_catalog.pg_namespace n where n.oid >= 2200),
  (select sum(pg_catalog.hashtextextended(row(p.oid, p.xmin)::text, 9)) from pg_catalog.pg_publication p),
  (select sum(pg_catalog.hashtextextended(row(r.oid, r.xmin)::text, 10)) from pg_catalog.pg_publication_rel r),
  (select sum(pg_catalog.hashtextextended(row(s.oid, s.xmin)::text, 11)) from pg_catalog.pg_publication_namespace s)
), 0)";

/// Makes only what is not there. Whatever goes wrong in the function, the statement that called it goes on.
const EVENT_TRIGGER: &str = "
do $install$
begin
  if to_regnamespace('reactor') is null then
    create schema reactor;
  end if;
  if to_regprocedure('reactor.notify_policy()') is null then
    create function reactor.notify_policy() returns event_trigger language plpgsql as $body$
      begin
        perform pg_catalog.pg_notify('reactor_policy', '');
      exception when others then
        null;
      end
    $body$;
  end if;
  if not exists (select from pg_event_trigger where evtname = 'reactor_policy') then
    create event trigger reactor_policy on ddl_command_end execute function reactor.notify_policy();
  end if;
  if not exists (select from pg_event_trigger where evtname = 'reactor_policy_drop') then
    create event trigger reactor_policy_drop on sql_drop execute function reactor.notify_policy();
  end if;
end
$install$";
