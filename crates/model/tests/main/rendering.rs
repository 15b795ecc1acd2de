//! Values as JSON, beside Postgres's `to_jsonb`.

use anyhow::Result;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use reactor_model::relation::{Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_model::render::render_value;

use crate::database::{Database, cases};
use crate::kinds::{Kind, kinds};

#[tokio::test]
async fn values_are_rendered_as_to_jsonb_renders_them() -> Result<()> {
    let database = Database::open().await?;
    let mut runner = TestRunner::new(Config::default());
    for kind in kinds() {
        let inputs = sample(&mut runner, &kind, cases())?;
        compare(&database, &kind, &inputs).await?;
    }
    Ok(())
}

pub(crate) fn sample(runner: &mut TestRunner, kind: &Kind, count: usize) -> Result<Vec<String>> {
    let one = |_| kind.values.new_tree(runner).map(|tree| tree.current());
    (0..count).map(one).collect::<Result<_, _>>().map_err(|reason| anyhow::anyhow!("{}: {reason}", kind.column))
}

async fn compare(database: &Database, kind: &Kind, inputs: &[String]) -> Result<()> {
    let sql = format!(
        "select format('%s', value), to_jsonb(value)::text
           from unnest($1::text[]) with ordinality as input(text, place), lateral (select text::{} as value) as cast_input
          order by place",
        kind.sql_type
    );
    let column = database.relation.column_index(kind.column).expect("a column of the table");
    let type_oid = database.relation.columns[column].type_oid;
    let rows = database.client.query(&sql, &[&inputs]).await?;
    assert_eq!(rows.len(), inputs.len());
    for (row, input) in rows.iter().zip(inputs) {
        let (text, expected): (String, String) = (row.get(0), row.get(1));
        let mut out = Vec::new();
        render_value(&mut out, &database.relation, type_oid, text.as_bytes());
        let rendered = String::from_utf8(out).expect("UTF-8");
        assert_eq!(rendered, without_blanks(&expected), "{} of {input:?}", kind.sql_type);
        serde_json::from_str::<serde_json::Value>(&rendered).expect("JSON");
    }
    Ok(())
}

/// Removes the blanks outside of strings.
fn without_blanks(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            return true;
        }
        quoted = *c == '"';
        *c != ' '
    };
    json.chars().filter(is_kept).collect()
}

/// Types by oid that render in different ways.
fn described() -> Relation {
    let info = |name: &str, kind| TypeInfo { name: name.to_owned(), kind };
    let types = [
        (1, info("_int4", TypeKind::Array { element: 23, delimiter: ',' })),
        (2, info("pair", TypeKind::Composite { attributes: vec![("bb".to_owned(), 1), ("a".to_owned(), 3802)] })),
        (3, info("_pair", TypeKind::Array { element: 2, delimiter: ';' })),
        (4, info("hstore", TypeKind::Extension)),
        (5, info("self", TypeKind::Domain { base: 5 })),
        (6, info("odd", TypeKind::Array { element: 6, delimiter: 'é' })),
    ];
    Relation {
        oid: 1,
        table_oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        columns: Vec::new(),
        identity: ReplicaIdentity::Default,
        row_security: false,
        types: types.into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_render_as_json(
        type_oid in prop_oneof![
            Just(16), Just(20), Just(25), Just(1700), Just(701), Just(114), Just(3802), Just(1184), Just(22), 0u32..8
        ],
        text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[-0-9.eE+ :{}\\[\\],\"\\\\()=>;NULtrue]{0,30}".prop_map(String::into_bytes),
        ],
    ) {
        let mut out = Vec::new();
        render_value(&mut out, &described(), type_oid, &text);
        let parsed = serde_json::from_slice::<serde_json::Value>(&out);
        prop_assert!(parsed.is_ok(), "{:?} of type {type_oid} renders as {:?}", text, String::from_utf8_lossy(&out));
    }
}
