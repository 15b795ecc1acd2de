//! A database whose catalog answers what the compiler asks.

use std::collections::BTreeSet;

use reactor_pg::catalog::relation_by_name;
use reactor_pg::{Client, PgTarget, connect};
use reactor_policy_engine::{
    Argument, Fact, FunctionInfo, Knowledge, MAX_ROUNDS, Need, PolicySource, RowPolicies, SqlType, TableInfo, Template,
    Volatility, compile,
};
use reactor_testkit::Postgres;
use reactor_testkit::fixtures::AUTH_SQL;

pub(crate) struct Catalog {
    client: Client,
}

impl Catalog {
    pub(crate) async fn new(schema: &str) -> Self {
        let url = Postgres::shared().await.unwrap().create_database("compile").await.unwrap();
        let client = connect(&PgTarget::parse(&url).unwrap(), "test").await.unwrap();
        client
            .batch_execute(&format!("set search_path = public; {AUTH_SQL}; {schema}; reset search_path"))
            .await
            .unwrap();
        Self { client }
    }

    /// Makes a policy of the table, and compiles it as it is printed.
    pub(crate) async fn compile(&self, table: &str, using: &str) -> Template {
        let made = format!(
            "set search_path = public; drop policy if exists p on {table};
             create policy p on {table} to authenticated using ({using}); reset search_path"
        );
        self.client.batch_execute(&made).await.unwrap_or_else(|error| panic!("{using}: {error:?}"));
        let RowPolicies { permissive, restrictive } = self.policies(table).await;
        let relation = self.relation(table).await;
        let source = PolicySource { relation, row_security: true, permissive, restrictive, rules: Vec::new() };
        let mut knowledge = Knowledge::default();
        for _ in 0..MAX_ROUNDS {
            match compile(&source, &knowledge) {
                Ok(template) => return template,
                Err(needs) => {
                    for need in needs {
                        let fact = self.fact(&need).await;
                        knowledge.learn(need, fact);
                    }
                }
            }
        }
        panic!("still needs more after {MAX_ROUNDS} rounds");
    }

    /// Postgres takes every binding, and every set's query, as the role.
    pub(crate) async fn try_bindings_and_sets(&self, template: &Template) {
        let mut sql = "begin; set local role authenticated; set local \"request.jwt.claims\" = \
                       '{\"rooms\": [1], \"app_metadata\": {\"org\": \"00000000-0000-4000-8000-000000000000\"}}';"
            .to_owned();
        for binding in &template.bindings {
            sql.push_str(&format!("select {};", binding.sql));
        }
        for set in &template.sets {
            sql.push_str(&format!("{};", set.sql));
        }
        sql.push_str(&format!("set local search_path = public; select * from docs where {}; commit", template.sql));
        let done = self.client.batch_execute(&sql).await;
        let ended = self.client.batch_execute("rollback").await;
        ended.unwrap();
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn relation(&self, table: &str) -> reactor_model::Relation {
        relation_by_name(&self.client, "supabase_realtime", "public", table).await.unwrap().unwrap().relation
    }

    async fn policies(&self, table: &str) -> RowPolicies {
        let sql = "select polpermissive, pg_get_expr(polqual, polrelid) from pg_policy where polrelid = ('public.' || $1)::regclass";
        let mut policies = RowPolicies::default();
        for row in self.client.query(sql, &[&table]).await.unwrap() {
            let texts = if row.get(0) { &mut policies.permissive } else { &mut policies.restrictive };
            texts.push(row.get(1));
        }
        policies
    }

    async fn fact(&self, need: &Need) -> Fact {
        match need {
            Need::Function { schema, name } => self.functions(schema.as_deref(), name).await,
            Need::Type { name } => {
                let sql = "select oid, typtype = 'e', nullif(typelem, 0) from pg_type where oid = to_regtype($1)";
                match self.client.query_opt(sql, &[name]).await.unwrap() {
                    Some(row) => Fact::Type(SqlType {
                        oid: row.get(0),
                        domain: false,
                        is_enum: row.get(1),
                        element: row.get(2),
                        usable: true,
                    }),
                    None => Fact::Unknown,
                }
            }
            Need::Table { name, reader, .. } => {
                let relation = self.relation(name).await;
                let columns: BTreeSet<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
                let guarded = relation.row_security && reader.is_none();
                let policies = if guarded { Some(self.policies(name).await) } else { None };
                Fact::Table(Box::new(TableInfo {
                    relation,
                    published: true,
                    readable: columns.clone(),
                    usable: true,
                    columns,
                    policies,
                }))
            }
            Need::TypeOf { sql } => {
                let statement = self.client.prepare(&format!("select {sql}")).await.unwrap();
                Fact::TypeOf(statement.columns()[0].type_().oid())
            }
        }
    }

    async fn functions(&self, schema: Option<&str>, name: &str) -> Fact {
        let sql = "
            select n.nspname::text, p.proname::text, l.lanname::text, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc),
                   p.prosqlbody is not null, coalesce(p.proargnames, '{}'), p.proargtypes::oid[],
                   array(select format_type(t, null) from unnest(p.proargtypes::oid[]) t), p.pronargdefaults::int,
                   p.provariadic <> 0, p.prorettype, p.proisstrict, p.proretset, p.provolatile::text, p.prosecdef,
                   pg_get_userbyid(p.proowner)::text, coalesce(p.proconfig, '{}'), p.prokind = 'f'
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
            where p.proname = $2 and n.nspname = any (case when $1::text is null then '{pg_catalog,public}' else array[$1] end)";
        let rows = self.client.query(sql, &[&schema, &name]).await.unwrap();
        let functions = rows.iter().map(|row| {
            let (names, oids, types): (Vec<String>, Vec<u32>, Vec<String>) = (row.get(5), row.get(6), row.get(7));
            let argument =
                |(index, (type_oid, type_name))| Argument { name: names.get(index).cloned(), type_oid, type_name };
            FunctionInfo {
                schema: row.get(0),
                name: row.get(1),
                language: row.get(2),
                body: row.get(3),
                parsed_body: row.get(4),
                arguments: oids.into_iter().zip(types).enumerate().map(argument).collect(),
                defaults: usize::try_from(row.get::<_, i32>(8)).unwrap(),
                variadic: row.get(9),
                result: row.get(10),
                strict: row.get(11),
                returns_set: row.get(12),
                volatility: match row.get::<_, &str>(13) {
                    "i" => Volatility::Immutable,
                    "s" => Volatility::Stable,
                    _ => Volatility::Volatile,
                },
                security_definer: row.get(14),
                owner: row.get(15),
                settings: row.get(16),
                executable: true,
                usable: true,
                plain: row.get(17),
            }
        });
        Fact::Functions(functions.collect())
    }
}
