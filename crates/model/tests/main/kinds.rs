//! The columns of the test table: every common type, with its random values.

use proptest::prelude::*;

use crate::values::{
    Texts, array, composite, date, float4, float8, integer, interval, json, numeric, one_of, range, text, text_within,
    time, timestamp, timestamptz, timetz,
};

/// A column.
pub(crate) struct Kind {
    pub(crate) column: &'static str,
    /// Its type, which is also what values are cast to.
    pub(crate) sql_type: &'static str,
    /// Its collation, if it is not the database's.
    pub(crate) collation: Option<&'static str>,
    /// Texts that the type accepts.
    pub(crate) values: Texts,
}

impl Kind {
    fn new(column: &'static str, sql_type: &'static str, values: Texts) -> Self {
        Self { column, sql_type, collation: None, values }
    }

    fn collated(column: &'static str, sql_type: &'static str, collation: &'static str, values: Texts) -> Self {
        Self { column, sql_type, collation: Some(collation), values }
    }

    pub(crate) fn column_sql(&self) -> String {
        format!("{} {}{}", self.column, self.sql_type, self.collate_sql())
    }

    pub(crate) fn collate_sql(&self) -> String {
        self.collation.map(|name| format!(" collate \"{name}\"")).unwrap_or_default()
    }
}

pub(crate) fn kinds() -> Vec<Kind> {
    [scalars(), texts(), times(), documents(), others(), arrays_and_ranges(), user_defined()]
        .into_iter()
        .flatten()
        .collect()
}

fn scalars() -> Vec<Kind> {
    vec![
        Kind::new("int2_", "int2", integer(i16::MIN.into(), i16::MAX.into())),
        Kind::new("int4_", "int4", integer(i32::MIN.into(), i32::MAX.into())),
        Kind::new("int8_", "int8", integer(i64::MIN, i64::MAX)),
        Kind::new("oid_", "oid", integer(0, u32::MAX.into())),
        Kind::new("numeric_", "numeric", numeric()),
        Kind::new(
            "scaled",
            "numeric(10,2)",
            prop_oneof!["-?[0-9]{1,7}(\\.[0-9]{1,4})?", Just("NaN".to_owned())].boxed(),
        ),
        Kind::new("float4_", "float4", float4()),
        Kind::new("float8_", "float8", float8()),
        Kind::new("bool_", "bool", one_of(&["t", "f", "yes", "off"])),
        Kind::new("uuid_", "uuid", prop_oneof!["[0-9a-fA-F]{32}", "0{31}[0-2]"].boxed()),
        Kind::new("bytea_", "bytea", "\\\\\\\\x([0-9a-f][0-9a-f]){0,4}".boxed()),
    ]
}

fn texts() -> Vec<Kind> {
    vec![
        Kind::new("text_", "text", text()),
        Kind::collated("text_c", "text", "C", text()),
        Kind::collated("text_icu", "text", "en-x-icu", text()),
        Kind::collated("text_caseless", "text", "caseless", text()),
        Kind::new("varchar_", "varchar(5)", text()),
        Kind::new("bpchar_", "char(5)", text()),
        Kind::collated("bpchar_icu", "char(5)", "en-x-icu", text()),
        Kind::new("name_", "name", text_within(63)),
        Kind::new("char_", "\"char\"", "[a-z]?".boxed()),
        Kind::new("citext_", "citext", text()),
    ]
}

fn times() -> Vec<Kind> {
    vec![
        Kind::new("date_", "date", date()),
        Kind::new("time_", "time", time()),
        Kind::new("timetz_", "timetz", timetz()),
        Kind::new("timestamp_", "timestamp", timestamp()),
        Kind::new(
            "timestamp_ms",
            "timestamp(3)",
            timestamp().prop_filter("does not round over the end", |t| !t.starts_with("294276")).boxed(),
        ),
        Kind::new("timestamptz_", "timestamptz", timestamptz()),
        Kind::new("interval_", "interval", interval()),
    ]
}

fn documents() -> Vec<Kind> {
    vec![
        Kind::new("json_", "json", json()),
        Kind::new("jsonb_", "jsonb", json()),
        Kind::new("xml_", "xml", one_of(&["<a b=\"c\">d</a>", "<a/>", "<é>\"</é>"])),
        Kind::new(
            "hstore_",
            "hstore",
            one_of(&["", "a=>1", "bb=>\"x \\\" y\", a=>NULL, c=>\"NULL\"", "\"a,b\"=>\"=>\""]),
        ),
        Kind::new("tsvector_", "tsvector", one_of(&["a fat cat", "'it''s':1A b:2", ""])),
        Kind::new("jsonpath_", "jsonpath", one_of(&["$.a[*] ? (@ > 1)", "$"])),
    ]
}

fn others() -> Vec<Kind> {
    let addresses =
        &["10.0.0.1", "10.0.0.1/32", "10.0.0.1/8", "::1", "::1/128", "fe80::/10", "::ffff:1.2.3.4", "0.0.0.0/0"];
    let macs = &["08:00:2b:01:02:03", "08002B010204", "00:00:00:00:00:00"];
    vec![
        Kind::new("inet_", "inet", one_of(addresses)),
        Kind::new("cidr_", "cidr", one_of(&["10.0.0.0/8", "10.0.0.1/32", "10.0.0.1", "::1", "::/0", "fe80::/10"])),
        Kind::new("macaddr_", "macaddr", one_of(macs)),
        Kind::new("macaddr8_", "macaddr8", one_of(macs)),
        Kind::new("bit_", "bit(4)", "[01]{4}".boxed()),
        Kind::new("varbit_", "varbit", "[01]{0,10}".boxed()),
        Kind::new("money_", "money", one_of(&["1.50", "-1,000.00", "0"])),
        Kind::new("point_", "point", one_of(&["(1,2)", "(-0.5,1e20)"])),
        Kind::new("box_", "box", one_of(&["(1,2),(3,4)", "(0,0),(0,0)"])),
        Kind::new("pg_lsn_", "pg_lsn", one_of(&["0/0", "16/B374D848", "A/1"])),
        Kind::new("xid_", "xid", one_of(&["1", "4294967295"])),
        Kind::new("xid8_", "xid8", one_of(&["1", "18446744073709551615"])),
        Kind::new("tid_", "tid", one_of(&["(0,1)", "(10,2)"])),
        Kind::new("int2vector_", "int2vector", one_of(&["1 2 3", "", "-1"])),
        Kind::new("oidvector_", "oidvector", one_of(&["1 2 3", ""])),
    ]
}

fn arrays_and_ranges() -> Vec<Kind> {
    vec![
        Kind::new("ints", "int4[]", array(integer(-2, 2))),
        Kind::new("texts", "text[]", array(text())),
        Kind::collated("texts_icu", "text[]", "en-x-icu", array(text())),
        Kind::new("numerics", "numeric[]", array(numeric())),
        Kind::new("bools", "bool[]", array(one_of(&["t", "f"]))),
        Kind::new("bpchars", "char(3)[]", array(text_within(3))),
        Kind::new("timestamptzs", "timestamptz[]", array(timestamptz())),
        Kind::new("jsonbs", "jsonb[]", array(json())),
        Kind::new("jsons", "json[]", array(json())),
        Kind::new("uuids", "uuid[]", array("0{31}[0-2]".boxed())),
        Kind::new("boxes", "box[]", one_of(&["{(1,2),(3,4);(5,6),(7,8)}", "{}", "{NULL;(1,1),(0,0)}"])),
        Kind::new("int4range_", "int4range", range("1", "3", "5")),
        Kind::new("numrange_", "numrange", prop_oneof![range("1.0", "2.50", "3"), range("1", "2.5", "3.0")].boxed()),
        Kind::new("tstzrange_", "tstzrange", range("2000-01-01", "2001-01-01", "infinity")),
        Kind::new("int4ranges", "int4range[]", array(range("1", "3", "5"))),
        Kind::new("multirange_", "int4multirange", one_of(&["{}", "{[1,3),[5,7)}", "{[1,2],[3,4]}", "{(,1)}"])),
    ]
}

fn user_defined() -> Vec<Kind> {
    let mood = || one_of(&["sad", "ok", "a \"b\", c"]);
    let pair = || composite(vec![integer(-2, 2), text(), timestamptz()]);
    vec![
        Kind::new("mood_", "mood", mood()),
        Kind::new("moods", "mood[]", array(mood())),
        Kind::new("score_", "score", integer(-2, 2)),
        Kind::new("label_", "label", text()),
        Kind::new("scores_", "scores", array(integer(-2, 2))),
        Kind::new("pair_", "pair", pair()),
        Kind::new("pairs", "pair[]", array(pair())),
        Kind::new("person_", "person", pair()),
        Kind::new("nested_", "nested", composite(vec![pair(), array(mood()), json(), array(pair())])),
        Kind::new("nesteds", "nested[]", array(composite(vec![pair(), array(mood()), json(), array(pair())]))),
    ]
}
