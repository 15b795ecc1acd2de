//! What the compiler of policies asks of the catalog, answered for one role.

use std::collections::BTreeSet;

use reactor_pg::catalog::{Publication, RelationInfo, RelationKind, relation_by_name};
use reactor_pg::{Client, PgError};
use reactor_policy_engine::{
    Argument, AuthorizerError, Fact, FunctionInfo, Knowledge, MAX_ROUNDS, Need, RowPolicies, SqlType, TableInfo,
    Template, Volatility,
};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};

use crate::access::DatabaseGrant;
use crate::acting::{Acting, Actors, Statement, is_about};
use crate::names::quoted;
use crate::policies::{Policy, policies, rights};
use crate::session::Session;

/// Reads the catalog for the compiler.
pub(crate) struct Reader<'a> {
    session: &'a Session,
    actors: &'a Actors,
    pub(crate) acting: Acting,
    /// The role, whether it exists or not.
    role: &'a str,
    publication: &'a str,
    /// The schemas that the role finds names in, in their order.
    schemas: Vec<String>,
}

/// The schemas that the role finds unqualified names in. Those that it may not use are not among them.
async fn schemas(actors: &Actors, acting: &Acting) -> Result<Vec<String>, AuthorizerError> {
    let sql = "select pg_catalog.current_schemas(true)::text[]".to_owned();
    Ok(value(actors, acting, sql).await?.unwrap_or_default())
}

/// The value of a statement; `None` when there is none, or Postgres refuses the statement. That it took too long says
/// nothing of it.
async fn value<T: FromSqlOwned>(actors: &Actors, acting: &Acting, sql: String) -> Result<Option<T>, AuthorizerError> {
    let answers = match actors.run(acting, vec![Statement { sql, params: Vec::new() }]).await? {
        Ok(answers) => answers,
        Err(failure) if failure.took_too_long() => return Err(AuthorizerError::Timeout),
        Err(_) => return Ok(None),
    };
    Ok(answers.first().and_then(|rows| rows.first()?.try_get(0).ok()))
}

impl<'a> Reader<'a> {
    /// For a role, whose search path is written out: what runs as the role then finds the same names.
    pub(crate) async fn new(
        session: &'a Session,
        actors: &'a Actors,
        mut acting: Acting,
        role: &'a str,
        publication: &'a str,
    ) -> Result<Self, AuthorizerError> {
        let schemas = schemas(actors, &acting).await?;
        if !schemas.is_empty() {
            acting.search_path = schemas.iter().map(|schema| quoted(schema)).collect::<Vec<_>>().join(", ");
        }
        Ok(Self { session, actors, acting, role, publication, schemas })
    }
}

impl Reader<'_> {
    /// Compiles with what the compiler asks for; what is known in the end when it still asks after so many rounds.
    pub(crate) async fn compile(
        &self,
        compile: impl Fn(&Knowledge) -> Result<Template, Vec<Need>>,
    ) -> Result<Result<Template, Knowledge>, AuthorizerError> {
        let mut knowledge = Knowledge::default();
        for _ in 0..MAX_ROUNDS {
            match compile(&knowledge) {
                Ok(template) => return Ok(Ok(template)),
                Err(needs) => {
                    for need in needs {
                        let fact = self.fact(&need).await?;
                        knowledge.learn(need, fact);
                    }
                }
            }
        }
        Ok(Err(knowledge))
    }

    /// The answer, as of now.
    async fn fact(&self, need: &Need) -> Result<Fact, AuthorizerError> {
        match need {
            Need::Function { schema, name } => {
                let schemas = self.places(schema.as_ref());
                self.session.ask(async |client| functions(client, self.role, &schemas, name).await).await
            }
            Need::Type { name } => self.session.ask(async |client| self.named_type(client, name).await).await,
            Need::Table { schema, name, reader } => {
                let schemas = self.places(schema.as_ref());
                let reader = reader.as_deref();
                self.session.ask(async |client| self.table(client, &schemas, name, reader).await).await
            }
            Need::TypeOf { sql } => self.type_of(sql).await,
        }
    }

    fn places(&self, schema: Option<&String>) -> Vec<String> {
        schema.map_or_else(|| self.schemas.clone(), |schema| vec![schema.clone()])
    }

    async fn named_type(&self, client: &Client, name: &str) -> Result<Fact, PgError> {
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&name, Type::TEXT), (&self.schemas, Type::TEXT_ARRAY), (&self.role, Type::TEXT)];
        // A name that is none, or none of a type, is an error of the statement.
        match client.query_typed(TYPE, &params).await {
            Ok(rows) => rows.first().map_or(Ok(Fact::Unknown), sql_type),
            Err(error) if is_about(&error) && error.code() != Some(&SqlState::QUERY_CANCELED) => Ok(Fact::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    async fn table(
        &self,
        client: &Client,
        schemas: &[String],
        name: &str,
        reader: Option<&str>,
    ) -> Result<Fact, PgError> {
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&schemas, Type::TEXT_ARRAY), (&name, Type::TEXT)];
        let found = client.query_typed(TABLE_SCHEMA, &params).await?;
        let Some(schema) = found.first().map(|row| row.try_get::<_, String>(0)).transpose()? else {
            return Ok(Fact::Unknown);
        };
        let Some(info) = relation_by_name(client, self.publication, &schema, name).await? else {
            return Ok(Fact::Unknown);
        };
        let reader = reader.unwrap_or(self.role);
        let (rights, policies, published) = futures::try_join!(
            rights(client, reader, info.oid),
            policies(client, reader, info.oid),
            published(client, self.publication, &info)
        )?;
        let Some(rights) = rights.filter(|rights| rights.role.may_act) else {
            return Ok(Fact::Unknown);
        };
        let columns: BTreeSet<String> = info.relation.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Fact::Table(Box::new(TableInfo {
            relation: published_part(&info),
            published,
            columns,
            readable: rights.selectable,
            usable: !matches!(rights.grant, DatabaseGrant::NoSchema),
            policies: rights.row_security.then(|| row_policies(&policies)),
        })))
    }

    /// Without evaluating it. What Postgres refuses has no type.
    async fn type_of(&self, sql: &str) -> Result<Fact, AuthorizerError> {
        let sql = format!(
            "with recursive bases(oid, base) as (
                select t.oid, t.typbasetype from pg_catalog.pg_type t
                 where t.oid operator(pg_catalog.=) (pg_catalog.pg_typeof((select ({sql}\n) where false))::pg_catalog.oid)
                union all
                select t.oid, t.typbasetype from bases b, pg_catalog.pg_type t where t.oid operator(pg_catalog.=) b.base)
             select oid from bases where base operator(pg_catalog.=) 0::pg_catalog.oid"
        );
        Ok(value(self.actors, &self.acting, sql).await?.map_or(Fact::Unknown, Fact::TypeOf))
    }
}

/// The texts of policies, as the compiler takes them.
pub(crate) fn row_policies(policies: &[Policy]) -> RowPolicies {
    let texts = |permissive: bool| {
        policies.iter().filter(|policy| policy.permissive == permissive).map(|policy| policy.using.clone()).collect()
    };
    RowPolicies { permissive: texts(true), restrictive: texts(false) }
}

/// The relation as its changes come, with its published columns only.
pub(crate) fn published_part(info: &RelationInfo) -> reactor_model::Relation {
    let mut relation = info.relation.clone();
    match &info.publication {
        Publication::With(columns) => relation.columns.retain(|column| columns.contains(&column.name)),
        Publication::Without | Publication::Missing => relation.columns.clear(),
    }
    relation
}

const TABLE_SCHEMA: &str = "
select n.nspname::text
  from pg_catalog.unnest($1) with ordinality s(name, place)
  join pg_catalog.pg_namespace n on n.nspname = s.name
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = $2
 order by s.place limit 1";

/// Whether all changes of the table itself are published, and it is the only place of its rows.
const PUBLISHED: &str = "
select p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate and c.relpersistence = 'p'
       and not exists (select from pg_catalog.pg_inherits i join pg_catalog.pg_class child on child.oid = i.inhrelid
                        where i.inhparent = c.oid and not child.relispartition)
       and not exists (select from pg_catalog.pg_publication_rel r
                        where r.prpubid = p.oid and r.prqual is not null
                          and (r.prrelid = c.oid or r.prrelid in (select t.relid from pg_catalog.pg_partition_tree(c.oid) t)))
       and (p.puballtables
            or exists (select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
            or exists (select from pg_catalog.pg_publication_namespace s
                        where s.pnpubid = p.oid and s.pnnspid = c.relnamespace))
  from pg_catalog.pg_publication p, pg_catalog.pg_class c
 where p.pubname = $1 and c.oid = $2";

async fn published(client: &Client, publication: &str, info: &RelationInfo) -> Result<bool, PgError> {
    if !matches!(info.kind, RelationKind::Table | RelationKind::Partitioned) {
        return Ok(false);
    }
    let rows = client.query_typed(PUBLISHED, &[(&publication, Type::TEXT), (&info.oid, Type::OID)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// By its name alone, which finds those of `pg_catalog` and qualified ones, or else in the schemas.
const TYPE: &str = "
with recursive found(oid) as (
    select coalesce(pg_catalog.to_regtype($1)::pg_catalog.oid,
        (select pg_catalog.to_regtype(pg_catalog.quote_ident(s.name) || '.' || $1)::pg_catalog.oid
           from pg_catalog.unnest($2) with ordinality s(name, place)
          where pg_catalog.to_regtype(pg_catalog.quote_ident(s.name) || '.' || $1) is not null
          order by s.place limit 1))),
bases(oid, base) as (
    select t.oid, t.typbasetype from found f join pg_catalog.pg_type t on t.oid = f.oid
    union all
    select t.oid, t.typbasetype from bases b join pg_catalog.pg_type t on t.oid = b.base)
select t.oid, t.oid <> (select f.oid from found f), t.typtype = 'e',
       case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem end,
       not exists (select from found f, pg_catalog.pg_type named, pg_catalog.pg_roles r
                    where named.oid = f.oid and r.rolname = $3
                      and not pg_catalog.has_schema_privilege(r.oid, named.typnamespace, 'USAGE'))
  from bases b join pg_catalog.pg_type t on t.oid = b.oid
 where b.base = 0";

fn sql_type(row: &Row) -> Result<Fact, PgError> {
    Ok(Fact::Type(SqlType {
        oid: row.try_get(0)?,
        domain: row.try_get(1)?,
        is_enum: row.try_get(2)?,
        element: row.try_get(3)?,
        usable: row.try_get(4)?,
    }))
}

/// Arguments that are passed in: all but OUT and TABLE ones.
const FUNCTIONS: &str = "
select n.nspname::text, p.proname::text, l.lanname::text,
       case when l.lanname = 'sql' then coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) end,
       p.prosqlbody is not null,
       array(select coalesce(p.proargnames[a.place], '')
               from pg_catalog.unnest(coalesce(p.proargmodes, pg_catalog.array_fill('i'::\"char\", array[p.pronargs::int4])))
                    with ordinality a(mode, place)
              where a.mode in ('i', 'b', 'v') order by a.place),
       p.proargtypes::pg_catalog.oid[],
       array(select pg_catalog.format_type(t.oid, null)
               from pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) with ordinality t(oid, place) order by t.place),
       p.pronargdefaults::int4, p.provariadic <> 0, p.prorettype, p.proisstrict, p.proretset, p.provolatile::text, p.prosecdef,
       pg_catalog.pg_get_userbyid(p.proowner)::text, coalesce(p.proconfig, '{}'),
       coalesce(pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE'),
                pg_catalog.has_function_privilege(p.oid, 'EXECUTE')),
       p.prokind = 'f',
       coalesce(pg_catalog.has_schema_privilege(r.oid, p.pronamespace, 'USAGE'), true)
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join pg_catalog.pg_roles r on r.rolname = $3
 where p.proname = $2 and n.nspname = any($1)
 order by pg_catalog.array_position($1, n.nspname::text), p.oid";

async fn functions(client: &Client, role: &str, schemas: &[String], name: &str) -> Result<Fact, PgError> {
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&name, Type::TEXT), (&role, Type::TEXT)];
    let rows = client.query_typed(FUNCTIONS, &params).await?;
    Ok(Fact::Functions(rows.iter().map(function).collect::<Result<_, PgError>>()?))
}

fn function(row: &Row) -> Result<FunctionInfo, PgError> {
    let (names, oids, types): (Vec<String>, Vec<u32>, Vec<String>) =
        (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let arguments = oids.into_iter().zip(types).enumerate().map(|(index, (type_oid, type_name))| Argument {
        name: names.get(index).filter(|name| !name.is_empty()).cloned(),
        type_oid,
        type_name,
    });
    let volatility: String = row.try_get(13)?;
    Ok(FunctionInfo {
        schema: row.try_get(0)?,
        name: row.try_get(1)?,
        language: row.try_get(2)?,
        body: row.try_get(3)?,
        parsed_body: row.try_get(4)?,
        arguments: arguments.collect(),
        defaults: usize::try_from(row.try_get::<_, i32>(8)?).unwrap_or_default(),
        variadic: row.try_get(9)?,
        result: row.try_get(10)?,
        strict: row.try_get(11)?,
        returns_set: row.try_get(12)?,
        volatility: match volatility.as_str() {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        security_definer: row.try_get(14)?,
        owner: row.try_get(15)?,
        settings: row.try_get(16)?,
        executable: row.try_get(17)?,
        usable: row.try_get(19)?,
        plain: row.try_get(18)?,
    })
}
