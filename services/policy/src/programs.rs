//! The policies of a table for a role as a program, compiled once and bound once for all who have the same claims.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use reactor_policy_engine::{
    AuthorizerError, BoundValue, PolicySource, PolicyVersion, Predicate, Principal, RowPolicy, Scalar, Template,
    compile, compile_with_what_is_known,
};

use sha2::{Digest as _, Sha256};

use crate::access::TableAccess;
use crate::acting::{Acting, Actors, Failure, Unanswered};
use crate::bindings::evaluate;
use crate::check::{Condition, trial};
use crate::knowledge::{Reader, published_part, row_policies};
use crate::policies::RowSecurity;
use crate::rules::{Rules, columns_in};
use crate::session::Session;

/// Templates that are kept; each is some kilobytes. More than the tables and roles of a tenant that are in use at a time.
const TEMPLATES: u64 = 1_000;

/// Bound policies that are kept.
const BOUND: u64 = 10_000;

/// How long a bound policy is used again: for the subscriptions of one connection, and when all connections ask again.
const BOUND_LIFETIME: Duration = Duration::from_secs(5);

/// A compiled policy.
#[derive(Debug)]
pub(crate) struct Program {
    /// Told apart from every other of this process.
    number: u64,
    pub(crate) template: Template,
    /// What is asked of Postgres about a row.
    pub(crate) condition: Condition,
    /// Whether it is left to Postgres what only a role may read, or what it says depends on who asks.
    pub(crate) needs_role: bool,
    /// What Postgres said of the rules, when it does not accept them.
    pub(crate) refused: Option<String>,
    /// The schemas that the role finds names in, as a search path.
    search_path: String,
}

impl Program {
    /// As whom its statements run. They are read by Postgres as ourselves, and with another list of schemas for the role it
    /// would read them again as the role, which then would need rights to the schemas that a policy names.
    pub(crate) fn acting(&self, subject: &Subject<'_>) -> Acting {
        Acting { search_path: self.search_path.clone(), ..subject.acting() }
    }
}

/// Whose policy of which table.
pub(crate) struct Subject<'a> {
    pub(crate) version: PolicyVersion,
    pub(crate) principal: &'a Principal,
    pub(crate) access: &'a TableAccess,
    pub(crate) rules: &'a Rules,
}

impl Subject<'_> {
    /// Whether every row may be seen, so that there is nothing to compile.
    pub(crate) fn sees_everything(&self) -> bool {
        self.access.security == RowSecurity::Off && self.rules.conditions.is_empty()
    }

    fn acting(&self) -> Acting {
        let role = &self.access.role;
        Acting::new(self.principal, role.exists, &role.search_path)
    }
}

/// Role, all that was compiled, and the version whose functions and tables were read for it.
type TemplateKey = (PolicyVersion, String, String);
type BoundKey = (u64, Principal);

/// Compiles and binds, behind caches.
pub(crate) struct Programs {
    publication: String,
    next: AtomicU64,
    programs: Cache<TemplateKey, Arc<Program>>,
    bound: Cache<BoundKey, Arc<RowPolicy>>,
}

impl Programs {
    pub(crate) fn new(publication: &str) -> Self {
        Self {
            publication: publication.to_owned(),
            next: AtomicU64::new(0),
            programs: Cache::builder().max_capacity(TEMPLATES).build(),
            bound: Cache::builder().max_capacity(BOUND).time_to_live(BOUND_LIFETIME).build(),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.programs.invalidate_all();
        self.bound.invalidate_all();
    }

    /// The program for the subject's role.
    pub(crate) async fn program(
        &self,
        session: &Session,
        actors: &Actors,
        subject: &Subject<'_>,
    ) -> Result<Arc<Program>, AuthorizerError> {
        let content = subject.access.content.get_or_init(|| format!("{:?}{:?}", subject.access.role, source(subject)));
        let key = (subject.version, subject.principal.role.clone(), content.clone());
        let made = async { Ok(Arc::new(self.make(session, actors, subject).await?)) };
        self.programs.try_get_with_by_ref(&key, Box::pin(made)).await.map_err(crate::access::shared_error)
    }

    async fn make(
        &self,
        session: &Session,
        actors: &Actors,
        subject: &Subject<'_>,
    ) -> Result<Program, AuthorizerError> {
        // What is asked of the catalog is the same for all claims.
        let acting = Acting { claims_json: "{}".to_owned(), ..subject.acting() };
        let reader = Reader::new(session, actors, acting, &subject.principal.role, &self.publication).await?;
        let source = source(subject);
        let compiled = reader.compile(|knowledge| compile(&source, knowledge)).await?;
        let template = compiled.unwrap_or_else(|knowledge| compile_with_what_is_known(&source, &knowledge));
        let condition = condition(subject, &template);
        let mut refused = None;
        if !subject.rules.conditions.is_empty() {
            match actors.run(&reader.acting, vec![trial(subject.access, &condition)]).await? {
                Err(failure) if failure.took_too_long() => return Err(AuthorizerError::Timeout),
                Err(Failure::Raised(_, said)) => refused = said.0,
                Err(Failure::Role) | Ok(_) => {}
            }
        }
        let needs_role = needs_role(&template);
        Ok(Program {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            template,
            condition,
            needs_role,
            refused,
            search_path: reader.acting.search_path,
        })
    }

    /// The program for the subject's claims.
    pub(crate) async fn bind(
        &self,
        actors: &Actors,
        subject: &Subject<'_>,
        program: &Program,
    ) -> Result<Arc<RowPolicy>, Unanswered> {
        let key = (program.number, subject.principal.clone());
        if let Some(known) = self.bound.get(&key).await {
            return Ok(known);
        }
        let values = evaluate(actors, &program.acting(subject), &program.template.bindings).await?;
        let check_key = || check_key(subject, &program.template, &values);
        let policy = Arc::new(program.template.bind(&values, check_key));
        self.bound.insert(key, Arc::clone(&policy)).await;
        Ok(policy)
    }
}

/// Equal for principals of whom Postgres would say the same about every row: the policy and all that it reads of them. A
/// digest without collisions, because whoever has another's key gets another's answers.
fn check_key(subject: &Subject<'_>, template: &Template, values: &[BoundValue]) -> String {
    let mut digest = Digest(Sha256::new());
    subject.access.info.relation.table_oid.hash(&mut digest);
    template.hash(&mut digest);
    subject.principal.role.hash(&mut digest);
    for value in values {
        match value {
            BoundValue::Value(text) => text.hash(&mut digest),
            BoundValue::Raised => 2_u8.hash(&mut digest),
        }
    }
    if template.opaque {
        subject.principal.claims_json.hash(&mut digest);
    }
    let bytes = digest.0.finalize();
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Takes what [`Hash`] gives into a digest.
struct Digest(Sha256);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn source(subject: &Subject<'_>) -> PolicySource {
    let policies = match &subject.access.security {
        RowSecurity::Off => None,
        RowSecurity::Policies(policies) => Some(row_policies(policies)),
    };
    let row_security = policies.is_some();
    let policies = policies.unwrap_or_default();
    PolicySource {
        relation: published_part(&subject.access.info),
        row_security,
        permissive: policies.permissive,
        restrictive: policies.restrictive,
        rules: subject.rules.conditions.clone(),
    }
}

/// The columns of the policies as Postgres recorded them, unless one of them names the whole row, which it does not record.
fn condition(subject: &Subject<'_>, template: &Template) -> Condition {
    let relation = &subject.access.info.relation;
    let policies = match &subject.access.security {
        RowSecurity::Off => &[],
        RowSecurity::Policies(policies) => policies.as_slice(),
    };
    let whole_row = policies.iter().any(|policy| policy.using.contains(".*"));
    let mut columns: Option<Vec<String>> =
        (!whole_row).then(|| policies.iter().flat_map(|policy| policy.columns.iter().cloned()).collect());
    for rule in &subject.rules.conditions {
        let names = relation.columns.iter().map(|column| column.name.as_str());
        let found = columns_in(rule, &relation.table, names);
        columns = columns.zip(found).map(|(mut columns, found)| {
            columns.extend(found);
            columns
        });
    }
    if let Some(columns) = &mut columns {
        columns.sort_unstable();
        columns.dedup();
    }
    Condition { sql: template.sql.clone(), rules: template.rules.clone(), columns }
}

/// What says another thing depending on who asks, in the text of a policy.
const WHO: &[&str] = &["current_user", "session_user", "current_role", "user", "pg_has_role", "has_table_privilege"];

/// Whether a policy means something only for a role of the database: it reads tables or calls functions of its own, or it
/// says who asks.
fn needs_role(template: &Template) -> bool {
    let text = template.sql.to_ascii_lowercase();
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    let says_who = text.split(|character| !is_part(character)).any(|word| WHO.contains(&word));
    says_who || !template.sets.is_empty() || asks(&template.predicate)
}

/// Whether a part of it is left to Postgres, whatever the row.
fn asks(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Ask => true,
        Predicate::Const(_) | Predicate::Raise => false,
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().any(asks),
        Predicate::Not(operand) | Predicate::Is { operand, .. } => asks(operand),
        Predicate::Compare { left, right, .. } => scalar_asks(left) || scalar_asks(right),
        Predicate::Quantified { left, array, .. } => scalar_asks(left) || scalar_asks(array),
        Predicate::Like { text, pattern, .. } => scalar_asks(text) || scalar_asks(pattern),
        Predicate::IsNull(scalar) | Predicate::Bool(scalar) => scalar_asks(scalar),
        Predicate::Member { values, .. } => values.iter().any(scalar_asks),
    }
}

fn scalar_asks(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => false,
        Scalar::Cast { operand, .. } | Scalar::Lower(operand) | Scalar::Upper(operand) => scalar_asks(operand),
        Scalar::Concat(left, right) => scalar_asks(left) || scalar_asks(right),
        Scalar::Coalesce(parts) => parts.iter().any(scalar_asks),
        Scalar::JsonGet { json, key, .. } => scalar_asks(json) || scalar_asks(key),
        Scalar::JsonPath { json, path, .. } => scalar_asks(json) || scalar_asks(path),
        Scalar::Truth(predicate) => asks(predicate),
    }
}
