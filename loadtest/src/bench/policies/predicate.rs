//! What one evaluation of a compiled predicate costs.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Result, ensure};
use reactor_model::filter::Truth;
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_model::{Datum, Tuple};
use reactor_policy_engine::{Comparator, Lookup, MemberMode, Predicate, RowImage, Scalar, Sets, Verdict};
use reactor_runtime::clock;

/// Evaluations that are timed together; the fastest of [`ROUNDS`] counts, since nothing makes one faster than it is.
const EVALUATIONS: u32 = 200_000;
const ROUNDS: u32 = 9;

const BOOL: u32 = 16;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;
const TIMESTAMPTZ: u32 = 1184;

pub(crate) const OWNER: &str = "2f0c1f5e-0000-4000-8000-000000000001";

/// A predicate and what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    pub(crate) nanos: f64,
}

/// A set that has everything.
struct Everything;

impl Sets for Everything {
    fn lookup(&self, _: usize, values: &[Option<&[u8]>]) -> Lookup {
        black_box(values);
        Lookup { found: true, any_row: true, any_null_key: false }
    }
}

/// The table of the measures.
pub(crate) fn relation() -> Relation {
    let columns = [
        ("id", INT8),
        ("owner_id", UUID),
        ("org_id", TEXT),
        ("status", TEXT),
        ("open", BOOL),
        ("doc", JSONB),
        ("at", TIMESTAMPTZ),
    ];
    let names = [
        (BOOL, "bool"),
        (INT8, "int8"),
        (TEXT, "text"),
        (UUID, "uuid"),
        (JSONB, "jsonb"),
        (TIMESTAMPTZ, "timestamptz"),
    ];
    let column = |(name, type_oid): (&str, u32)| Column {
        name: name.to_owned(),
        type_oid,
        type_mod: -1,
        primary_key: name == "id",
        identity_key: name == "id",
        collation: if type_oid == TEXT { Collation::Deterministic } else { Collation::None },
    };
    let types = names.map(|(oid, name)| (oid, TypeInfo { name: name.to_owned(), kind: TypeKind::Builtin }));
    Relation {
        oid: 16_400,
        table_oid: 16_400,
        schema: "public".to_owned(),
        table: "rows".to_owned(),
        columns: columns.map(column).to_vec(),
        identity: ReplicaIdentity::Default,
        row_security: true,
        types: BTreeMap::from(types),
    }
}

/// A row of it.
pub(crate) fn row(id: &str, owner: &str) -> Tuple {
    Tuple::from_values([
        Datum::Text(id.as_bytes()),
        Datum::Text(owner.as_bytes()),
        Datum::Text(b"acme"),
        Datum::Text(b"open"),
        Datum::Text(b"t"),
        Datum::Text(br#"{"team": "red", "level": 3}"#),
        Datum::Text(b"2026-11-30 10:00:00+00"),
    ])
}

fn column(name: &str, type_oid: u32) -> Scalar {
    Scalar::Column { name: name.to_owned(), type_oid }
}

fn literal(type_oid: u32, text: &str) -> Scalar {
    Scalar::Literal { type_oid, text: Some(text.to_owned()) }
}

/// `column = literal`
pub(crate) fn equals(name: &str, type_oid: u32, text: &str) -> Predicate {
    Predicate::Compare { operator: Comparator::Eq, left: column(name, type_oid), right: literal(type_oid, text) }
}

/// `owner_id = …`
pub(crate) fn owned_by(owner: &str) -> Predicate {
    equals("owner_id", UUID, owner)
}

fn cases() -> Vec<(&'static str, Predicate)> {
    let status = Predicate::Or(vec![equals("status", TEXT, "done"), equals("status", TEXT, "open")]);
    let org = Predicate::And(vec![equals("org_id", TEXT, "acme"), status]);
    let team =
        Scalar::JsonGet { json: Box::new(column("doc", JSONB)), key: Box::new(literal(TEXT, "team")), as_text: true };
    vec![
        ("owner_id = auth.uid()", owned_by(OWNER)),
        ("owner_id = … or (org_id = … and status in (…))", Predicate::Or(vec![owned_by("x"), org])),
        (
            "at > …",
            Predicate::Compare {
                operator: Comparator::Gt,
                left: column("at", TIMESTAMPTZ),
                right: literal(TIMESTAMPTZ, "2026-11-29 10:00:00+00"),
            },
        ),
        (
            "doc ->> 'team' = …",
            Predicate::Compare { operator: Comparator::Eq, left: team, right: literal(TEXT, "red") },
        ),
        (
            "exists (… members …)",
            Predicate::Member { set: 0, values: vec![column("id", INT8)], mode: MemberMode::Exists },
        ),
        (
            "open and not (org_id is null)",
            Predicate::And(vec![
                Predicate::Bool(column("open", BOOL)),
                Predicate::Not(Box::new(Predicate::IsNull(column("org_id", TEXT)))),
                Predicate::Const(Truth::True),
            ]),
        ),
    ]
}

pub(crate) fn run() -> Result<Vec<Cost>> {
    let (relation, row) = (relation(), row("1", OWNER));
    let image = RowImage { image: &row, fallback: None, held: None };
    let mut costs = Vec::new();
    for (name, predicate) in cases() {
        let compiled = predicate.compile(&relation)?;
        ensure!(compiled.evaluate(&image, &Everything) == Verdict::True, "`{name}` is not true");
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let begun = clock::now();
            for _ in 0..EVALUATIONS {
                black_box(compiled.evaluate(black_box(&image), &Everything));
            }
            best = best.min((clock::now() - begun).as_secs_f64());
        }
        costs.push(Cost { name, nanos: best * 1e9 / f64::from(EVALUATIONS) });
    }
    Ok(costs)
}
