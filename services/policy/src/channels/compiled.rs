//! Rights in private channels by the policies of `realtime.messages`, where it is known without a probe what that would find.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use reactor_model::Relation;
use reactor_model::tuple::{Datum, Tuple};
use reactor_policy_engine::{
    AuthorizerError, Binding, BoundValue, ChannelAccess, ChannelRequest, PolicySource, PolicyVersion, RowImage,
    Standalone, compile_by_settings,
};
use tokio_postgres::types::Type;

use super::Rights;
use super::messages::{Given, Inserted, Messages};
use super::probe::settings;
use crate::access::shared_error;
use crate::acting::{Actors, Statement};
use crate::bindings::evaluate;
use crate::knowledge::{Reader, row_policies};
use crate::policies::{Policy, RowSecurity};
use crate::session::Session;

/// Programs that are kept; each is some kilobytes. More than the roles that tokens of a tenant name.
const CAPACITY: u64 = 1_000;

/// How long a program is used: what sessions have set by themselves may change with the server's configuration.
const LIFETIME: Duration = Duration::from_secs(60);

/// Longer topics may not fit into an index, so that they cannot be inserted.
const MAX_TOPIC_BYTES: usize = 1_000;

const EXTENSIONS: [&str; 2] = ["broadcast", "presence"];

/// The role, all that is compiled, and the version whose functions were read for it.
type Key = (PolicyVersion, String, Arc<str>);

/// Compiles and judges, behind a cache.
pub(super) struct Compiled {
    publication: String,
    programs: Cache<Key, Option<Arc<Program>>>,
}

/// The rights of a role, for any topic and claims.
struct Program {
    /// What must be true of a row, or it is not inserted.
    conditions: Vec<Part>,
    /// What is evaluated when a row is inserted.
    evaluated: Vec<Part>,
    reads: Rule,
    writes: Rule,
    /// Settings that read as NULL where nobody sets them.
    unset: Vec<String>,
}

/// Whether a role may do something with rows.
enum Rule {
    /// Whatever is in them.
    Always(bool),
    Policies(Box<Part>),
}

/// A condition, with the values of what is in it but for settings.
struct Part {
    condition: Standalone,
    constants: Vec<BoundValue>,
}

impl Compiled {
    pub(super) fn new(publication: &str) -> Self {
        let programs = Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build();
        Self { publication: publication.to_owned(), programs }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.programs.invalidate_all();
    }

    /// What the principal may do in the channel; `None`: only a probe can tell.
    pub(super) async fn rights(
        &self,
        (session, actors): (&Session, &Actors),
        messages: &Messages,
        request: &ChannelRequest,
    ) -> Result<Option<Rights>, AuthorizerError> {
        let Some(inserted) = &messages.inserted else { return Ok(None) };
        if !messages.access.role.may_act || request.topic.len() > MAX_TOPIC_BYTES {
            return Ok(None);
        }
        let key = (messages.version, request.principal.role.clone(), Arc::clone(&messages.content));
        let made = async {
            let compiler = Compiler { session, actors, messages, inserted, role: &request.principal.role };
            Ok(compiler.program(&self.publication).await?.map(Arc::new))
        };
        let program = self.programs.try_get_with_by_ref(&key, Box::pin(made)).await.map_err(shared_error)?;
        Ok(program.and_then(|program| program.rights(messages, inserted, request)))
    }
}

impl Program {
    fn rights(&self, messages: &Messages, inserted: &Inserted, request: &ChannelRequest) -> Option<Rights> {
        let (names, values) = settings(request, &messages.access.role);
        let mut known: BTreeMap<String, String> = self.unset.iter().map(|name| (name.clone(), String::new())).collect();
        // Of two names that differ in case the later one is set last.
        known.extend(names.into_iter().map(|name| name.to_ascii_lowercase()).zip(values));
        let relation = &messages.access.info.relation;
        let images = EXTENSIONS.map(|extension| image(relation, inserted, &request.topic, extension));
        let rows = Rows { relation, images: &images, settings: &known };
        for part in &self.conditions {
            if !part.judge(&rows)?.iter().all(|truth| *truth) {
                return None;
            }
        }
        for part in &self.evaluated {
            part.judge(&rows)?;
        }
        let (reads, writes) = (self.reads.judge(&rows)?, self.writes.judge(&rows)?);
        let access = |place: usize| Some(ChannelAccess { read: *reads.get(place)?, write: *writes.get(place)? });
        Some((access(0)?, access(1)?))
    }
}

/// The rows that a probe would insert, and the settings that it would have.
struct Rows<'a> {
    relation: &'a Relation,
    images: &'a [Image],
    settings: &'a BTreeMap<String, String>,
}

/// A row, and which of its values are known.
struct Image {
    row: Tuple,
    held: Vec<bool>,
}

impl Image {
    fn as_row(&self) -> RowImage<'_> {
        RowImage { image: &self.row, fallback: None, held: Some(&self.held) }
    }
}

fn image(relation: &Relation, inserted: &Inserted, topic: &str, extension: &str) -> Image {
    let value = |name: &str| match name {
        "topic" => (Datum::Text(topic.as_bytes()), true),
        "extension" => (Datum::Text(extension.as_bytes()), true),
        "private" => (Datum::Text(b"t"), true),
        name => match inserted.defaults.iter().find(|(column, _)| column == name) {
            Some((_, Given::Null)) => (Datum::Null, true),
            Some((_, Given::Text(text))) => (Datum::Text(text.as_bytes()), true),
            Some((_, Given::Any)) | None => (Datum::Null, false),
        },
    };
    let (values, held): (Vec<_>, Vec<_>) = relation.columns.iter().map(|column| value(&column.name)).unzip();
    Image { row: Tuple::from_values(values), held }
}

impl Rule {
    fn judge(&self, rows: &Rows<'_>) -> Option<Vec<bool>> {
        match self {
            Self::Always(may) => Some(vec![*may; rows.images.len()]),
            Self::Policies(part) => part.judge(rows),
        }
    }
}

impl Part {
    /// Whether the condition is true for each of the rows; `None`: only Postgres can tell.
    fn judge(&self, rows: &Rows<'_>) -> Option<Vec<bool>> {
        let mut constants = self.constants.iter();
        let value = |binding: &Binding| match &binding.setting {
            Some(setting) => setting.read(rows.settings),
            None => constants.next().cloned(),
        };
        let values = self.condition.bindings().iter().map(value).collect::<Option<Vec<_>>>()?;
        let images: Vec<RowImage<'_>> = rows.images.iter().map(Image::as_row).collect();
        self.condition.judge(&values, rows.relation, &images)
    }
}

/// Makes a program for a role.
struct Compiler<'a> {
    session: &'a Session,
    actors: &'a Actors,
    messages: &'a Messages,
    inserted: &'a Inserted,
    role: &'a str,
}

impl Compiler<'_> {
    /// `None`: some of it is left to Postgres.
    async fn program(&self, publication: &str) -> Result<Option<Program>, AuthorizerError> {
        let access = &self.messages.access;
        let acting = crate::acting::Acting {
            role: Some(self.role.to_owned()),
            search_path: access.role.search_path.clone(),
            claims_json: "{}".to_owned(),
            settings: &[],
        };
        let reader = Reader::new(self.session, self.actors, acting, self.role, publication).await?;
        let (may_select, may_insert) =
            (self.messages.may_select(), self.messages.may_use() && self.messages.may_insert);
        let (readers, writers) = match &access.security {
            RowSecurity::Off => (None, None),
            RowSecurity::Policies(readers) => (Some(readers), Some(&self.messages.writers)),
        };
        let Some(conditions) = self.parts(&reader, &self.inserted.conditions).await? else { return Ok(None) };
        let Some(evaluated) = self.parts(&reader, &self.inserted.evaluated).await? else { return Ok(None) };
        let Some(reads) = self.rule(&reader, may_select, readers).await? else { return Ok(None) };
        let Some(writes) = self.rule(&reader, may_insert, writers).await? else { return Ok(None) };
        let mut program = Program { conditions, evaluated, reads, writes, unset: Vec::new() };
        program.unset = self.unset(&reader, &program).await?;
        Ok(Some(program))
    }

    async fn rule(
        &self,
        reader: &Reader<'_>,
        granted: bool,
        policies: Option<&Vec<Policy>>,
    ) -> Result<Option<Rule>, AuthorizerError> {
        let Some(policies) = policies.filter(|_| granted) else {
            return Ok(Some(Rule::Always(granted)));
        };
        let policies = row_policies(policies);
        Ok(self
            .part(reader, policies.permissive, policies.restrictive)
            .await?
            .map(|part| Rule::Policies(Box::new(part))))
    }

    async fn parts(&self, reader: &Reader<'_>, texts: &[String]) -> Result<Option<Vec<Part>>, AuthorizerError> {
        let mut parts = Vec::new();
        for text in texts {
            let Some(part) = self.part(reader, vec![text.clone()], Vec::new()).await? else { return Ok(None) };
            parts.push(part);
        }
        Ok(Some(parts))
    }

    async fn part(
        &self,
        reader: &Reader<'_>,
        permissive: Vec<String>,
        restrictive: Vec<String>,
    ) -> Result<Option<Part>, AuthorizerError> {
        let relation = self.messages.access.info.relation.clone();
        let source = PolicySource { relation, row_security: true, permissive, restrictive, rules: Vec::new() };
        let compiled = reader.compile(|knowledge| compile_by_settings(&source, knowledge)).await?;
        let Some(condition) = compiled.ok().and_then(Standalone::new) else { return Ok(None) };
        let constants: Vec<Binding> =
            condition.bindings().iter().filter(|binding| binding.setting.is_none()).cloned().collect();
        let constants = match evaluate(self.actors, &reader.acting, &constants).await {
            Ok(constants) => constants,
            Err(crate::acting::Unanswered::Role) => return Ok(None),
            Err(crate::acting::Unanswered::NoAnswer(error)) => return Err(error),
        };
        Ok(Some(Part { condition, constants }))
    }

    /// Settings that sessions have no value of, and that count as NULL wherever they are read.
    async fn unset(&self, reader: &Reader<'_>, program: &Program) -> Result<Vec<String>, AuthorizerError> {
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        for setting in program.parts().flat_map(|part| part.condition.bindings()).filter_map(|b| b.setting.as_ref()) {
            *names.entry(setting.name.clone()).or_insert(true) &= setting.empty_is_null;
        }
        let names: Vec<String> = names.into_iter().filter(|(_, is_null)| *is_null).map(|(name, _)| name).collect();
        let statement = Statement { sql: UNSET.to_owned(), params: vec![(Box::new(names), Type::TEXT_ARRAY)] };
        match self.actors.run(&reader.acting, vec![statement]).await? {
            Ok(answers) => {
                let name = |row: &tokio_postgres::Row| row.try_get(0).map_err(crate::session::no_answer);
                answers.iter().flatten().map(name).collect()
            }
            Err(_) => Ok(Vec::new()),
        }
    }
}

impl Program {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        let rules = [&self.reads, &self.writes].into_iter().filter_map(|rule| match rule {
            Rule::Always(_) => None,
            Rule::Policies(part) => Some(&**part),
        });
        self.conditions.iter().chain(&self.evaluated).chain(rules)
    }
}

/// A setting that was set once is empty afterwards. What is set for a role or database counts for sessions to come.
const UNSET: &str = "select s.name from pg_catalog.unnest($1) s(name)
 where coalesce(pg_catalog.current_setting(s.name, true), '') operator(pg_catalog.=) ''
   and not exists (select from pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c(setting)
                    where pg_catalog.lower(pg_catalog.split_part(c.setting, '=', 1)) operator(pg_catalog.=) s.name)";
