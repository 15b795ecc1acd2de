//! Statements that run as a principal: as its role, with its claims, read-only, each exchange a transaction of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reactor_pg::{Client, PgError};
use reactor_policy_engine::{AuthorizerError, Principal};
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use crate::session::{Health, Session};

/// As whom and where statements run.
#[derive(Clone)]
pub(crate) struct Acting {
    /// `None` where the database has no such role: then as ourselves, with the claims.
    pub(crate) role: Option<String>,
    /// Where functions find what they name without a schema.
    pub(crate) search_path: String,
    /// All claims as JSON.
    pub(crate) claims_json: String,
    /// Settings beside these.
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

impl Acting {
    /// As the principal, with its claims where PostgREST puts them.
    pub(crate) fn new(principal: &Principal, role_exists: bool, search_path: &str) -> Self {
        Self {
            role: role_exists.then(|| principal.role.clone()),
            search_path: search_path.to_owned(),
            claims_json: principal.claims_json.clone(),
            settings: &[],
        }
    }

    /// The settings of the transaction but for the role.
    pub(crate) fn settings(&self) -> (Vec<String>, Vec<String>) {
        let mut settings = vec![("search_path".to_owned(), self.search_path.clone())];
        settings.extend(self.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        settings.push(("request.jwt.claims".to_owned(), self.claims_json.clone()));
        let claims: BTreeMap<String, Value> = serde_json::from_str(&self.claims_json).unwrap_or_default();
        for (name, value) in claims {
            let text = match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            if is_setting_name(&name) && !text.contains('\0') {
                settings.push((format!("request.jwt.claim.{name}"), text));
            }
        }
        settings.into_iter().unzip()
    }
}

/// Whether Postgres takes it as part of a setting's name.
fn is_setting_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// A value of a statement.
pub(crate) type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// A statement with its values, which do not get into its text: Postgres logs the text of what fails.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
}

/// Why an exchange has no rows, when Postgres could be asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Our own user may not act as the role.
    Role,
    /// A statement failed for what is in it, or for what it found.
    Raised(SqlState, Refused),
}

impl Failure {
    /// What an error means to the question, if anything.
    fn of(error: Error) -> Result<Self, PgError> {
        match error.as_db_error() {
            Some(db) if raised(db.code()) => Ok(Self::Raised(db.code().clone(), Refused::of(db))),
            _ => Err(error.into()),
        }
    }

    /// Whether a statement ran into the deadline.
    pub(crate) fn took_too_long(&self) -> bool {
        matches!(self, Self::Raised(state, _) if *state == SqlState::QUERY_CANCELED)
    }
}

/// Why a policy was not bound, or rows not judged.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Our own user may not act as the role.
    Role,
    /// Postgres could not be asked.
    NoAnswer(AuthorizerError),
}

impl From<AuthorizerError> for Unanswered {
    fn from(error: AuthorizerError) -> Self {
        Self::NoAnswer(error)
    }
}

/// What Postgres said of a statement that it does not understand.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Option<String>);

impl Refused {
    /// Only of errors that are about the text: others may quote values.
    fn of(error: &DbError) -> Self {
        let about_text = error.code().code().starts_with("42") && *error.code() != SqlState::INSUFFICIENT_PRIVILEGE;
        Self(about_text.then(|| error.message().to_owned()))
    }
}

/// Whether the statement failed for its values, not for the state of the server.
pub(crate) fn raised(state: &SqlState) -> bool {
    *state == SqlState::QUERY_CANCELED
        || !["08", "53", "55", "57", "58", "F0", "XX"].iter().any(|class| state.code().starts_with(class))
}

/// Whether an error is about the statement, not about the server.
pub(crate) fn is_about(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| raised(db.code()))
}

/// Connections on which principals are acted for, one exchange at a time on each.
pub(crate) struct Actors {
    actors: Vec<Actor>,
    next: AtomicUsize,
}

struct Actor {
    session: Session,
    turn: Arc<Mutex<()>>,
}

impl Actors {
    pub(crate) fn new(sessions: impl IntoIterator<Item = Session>) -> Self {
        let actor = |session| Actor { session, turn: Arc::new(Mutex::new(())) };
        Self { actors: sessions.into_iter().map(actor).collect(), next: AtomicUsize::new(0) }
    }

    pub(crate) fn health(&self) -> Vec<Health> {
        self.actors.iter().map(|actor| actor.session.health()).collect()
    }

    /// Runs the statements in one transaction, in order; the rows of each. The inner error is one that means something to
    /// the question.
    pub(crate) async fn run(
        &self,
        acting: &Acting,
        statements: Vec<Statement>,
    ) -> Result<Result<Vec<Vec<Row>>, Failure>, AuthorizerError> {
        let Some(actor) = self.free() else {
            return Err(AuthorizerError::Unavailable("no connections".to_owned()));
        };
        let acting = acting.clone();
        let turn = Arc::clone(&actor.turn);
        actor
            .session
            .ask_shared(async move |client| {
                let turn = turn.lock_owned().await;
                // In a task of its own, which comes to the end of the transaction even when nobody waits any more.
                let exchange = tokio::spawn(exchange(client, turn, acting, statements));
                let early = |_| Err(PgError::new(reactor_pg::PgErrorKind::Other, "an exchange ended early"));
                exchange.await.unwrap_or_else(early)
            })
            .await
    }

    /// One that nobody uses, or the one whose turn it is to have a queue.
    fn free(&self) -> Option<&Actor> {
        let free = self.actors.iter().find(|actor| actor.turn.try_lock().is_ok());
        free.or_else(|| self.actors.get(self.next.fetch_add(1, Ordering::Relaxed) % self.actors.len().max(1)))
    }
}

pub(crate) const SET: &str = "select pg_catalog.set_config(s.name, s.value, true)
   from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) s(name, value)";

async fn exchange(
    client: Arc<Client>,
    _turn: OwnedMutexGuard<()>,
    acting: Acting,
    statements: Vec<Statement>,
) -> Result<Result<Vec<Vec<Row>>, Failure>, PgError> {
    let answer = transact(&client, &acting, &statements).await;
    // The end of a transaction that failed is a rollback. Without an answer the connection is given up by its keeper.
    let ended = client.batch_execute("commit").await;
    match (answer, ended) {
        (Ok(Ok(_)), Err(error)) => Err(error.into()),
        (answer, _) => answer,
    }
}

/// The statements are read by Postgres as ourselves and run as the principal: as with a policy, whoever runs it needs no
/// right to the schemas that it names, only to what is in them. Postgres reads a statement again as the principal when the
/// search path then has other schemas, or when a table in it has row security.
async fn transact(
    client: &Client,
    acting: &Acting,
    statements: &[Statement],
) -> Result<Result<Vec<Vec<Row>>, Failure>, PgError> {
    let (names, values) = acting.settings();
    let settings: [(&(dyn ToSql + Sync), Type); 2] = [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
    let types: Vec<Vec<Type>> =
        statements.iter().map(|statement| statement.params.iter().map(|(_, kind)| kind.clone()).collect()).collect();
    let prepare = statements.iter().zip(&types).map(|(statement, types)| client.prepare_typed(&statement.sql, types));
    // All in one flight.
    let (begun, set, prepared) = futures::join!(
        client.batch_execute("begin read only"),
        client.query_typed(SET, &settings),
        futures::future::join_all(prepare)
    );
    begun?;
    set?;
    let ready: Vec<_> = match prepared.into_iter().collect() {
        Ok(ready) => ready,
        Err(error) => return Failure::of(error).map(Err),
    };
    let params: Vec<Vec<&(dyn ToSql + Sync)>> = statements
        .iter()
        .map(|statement| statement.params.iter().map(|(value, _)| &**value as &(dyn ToSql + Sync)).collect())
        .collect();
    let role = acting.role.as_deref().unwrap_or("none");
    let run = ready.iter().zip(&params).map(|(statement, params)| client.query(statement, params));
    let role: [(&(dyn ToSql + Sync), Type); 1] = [(&role, Type::TEXT)];
    let (acted, answers) = futures::join!(
        client.query_typed("select pg_catalog.set_config('role', $1, true)", &role),
        futures::future::join_all(run)
    );
    if let Err(error) = acted {
        return match error.as_db_error().map(|db| db.code().clone()) {
            Some(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::INVALID_PARAMETER_VALUE) => Ok(Err(Failure::Role)),
            _ => Err(error.into()),
        };
    }
    match answers.into_iter().collect() {
        Ok(rows) => Ok(Ok(rows)),
        Err(error) => Failure::of(error).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_settings() {
        let acting = Acting {
            role: Some("r".into()),
            search_path: "public".into(),
            claims_json: r#"{"sub":"u","n":1,"b":true,"orgs":["a"],"x y":"no","nothing":null}"#.into(),
            settings: &[("jit", "off")],
        };
        let (names, values) = acting.settings();
        let settings: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "search_path=public",
            "jit=off",
            &format!("request.jwt.claims={}", acting.claims_json),
            "request.jwt.claim.b=true",
            "request.jwt.claim.n=1",
            "request.jwt.claim.sub=u",
        ];
        assert_eq!(settings, expected);
    }
}
