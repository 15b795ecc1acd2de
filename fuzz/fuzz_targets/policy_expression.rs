//! Any text as a policy, a rule and the body of a function: the compiler always comes to an end with a template.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_policy_engine::{
    Argument, BoundValue, Fact, FunctionInfo, Knowledge, MAX_ROUNDS, Need, PolicySource, SqlType, TableInfo,
    Volatility, compile, compile_with_what_is_known,
};

fuzz_target!(|text: &str| {
    let relation = relation(1, "messages");
    let policies = vec![text.to_owned()];
    let source = PolicySource {
        relation,
        row_security: true,
        permissive: policies.clone(),
        restrictive: policies.clone(),
        rules: policies,
    };
    let mut knowledge = Knowledge::default();
    for _ in 0..MAX_ROUNDS {
        let Err(needs) = compile(&source, &knowledge) else { break };
        for need in needs {
            let fact = answer(&need, text);
            knowledge.learn(need, fact);
        }
    }
    let template = compile_with_what_is_known(&source, &knowledge);
    let values = vec![BoundValue::Value(Some("t".to_owned())); template.bindings.len()];
    let _ = template.bind(&values, String::new);
});

/// Everything exists: functions are in SQL with the text itself as their body.
fn answer(need: &Need, text: &str) -> Fact {
    match need {
        Need::Function { schema, name } => Fact::Functions(vec![FunctionInfo {
            schema: schema.clone().unwrap_or_else(|| "public".to_owned()),
            name: name.clone(),
            language: "sql".to_owned(),
            body: Some(format!("select {text}")),
            parsed_body: false,
            arguments: vec![Argument { name: Some("a".to_owned()), type_oid: 25, type_name: "text".to_owned() }],
            defaults: 1,
            variadic: false,
            result: 16,
            strict: name.len() % 2 == 0,
            returns_set: false,
            volatility: Volatility::Stable,
            security_definer: name.len() % 3 == 0,
            owner: "owner".to_owned(),
            settings: Vec::new(),
            executable: true,
            plain: true,
        }]),
        Need::Type { .. } => Fact::Type(SqlType { oid: 100_000, domain: false, is_enum: true, element: None }),
        Need::Table { name, .. } => {
            let relation = relation(2, name);
            let columns: std::collections::BTreeSet<String> =
                relation.columns.iter().map(|column| column.name.clone()).collect();
            Fact::Table(Box::new(TableInfo {
                relation,
                published: true,
                readable: columns.clone(),
                columns,
                policies: None,
            }))
        }
        Need::TypeOf { .. } => Fact::TypeOf(25),
    }
}

fn relation(table_oid: u32, table: &str) -> Relation {
    let columns = [("id", 20), ("user_id", 2950), ("room_id", 20), ("body", 25), ("meta", 3802), ("ok", 16)];
    let column = |(name, type_oid): (&str, u32)| Column {
        name: name.to_owned(),
        type_oid,
        type_mod: -1,
        primary_key: name == "id",
        identity_key: name == "id",
        collation: if type_oid == 25 { Collation::Bytes } else { Collation::None },
    };
    let info = |(_, oid): (&str, u32)| (oid, TypeInfo { name: oid.to_string(), kind: TypeKind::Builtin });
    Relation {
        oid: table_oid,
        table_oid,
        schema: "public".to_owned(),
        table: table.to_owned(),
        columns: columns.into_iter().map(column).collect(),
        identity: ReplicaIdentity::Default,
        row_security: true,
        types: columns.into_iter().map(info).collect::<BTreeMap<_, _>>(),
    }
}
