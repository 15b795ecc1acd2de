//! The types that predicates are made of, with values of them as a user may write them.

/// A type.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its name in SQL, which is also the name of a column of that type, with `_` at its end.
    pub(crate) sql: &'static str,
    /// The column's collation, if it is not the database's.
    pub(crate) collation: Option<&'static str>,
    /// The type of its arrays, if there is a column of that.
    pub(crate) array: Option<&'static str>,
    /// Whether text, and how it can be cast.
    pub(crate) class: Class,
    /// Texts that the type accepts.
    pub(crate) values: &'static [&'static str],
}

/// Types that can stand for each other in comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Text,
    Int,
    Array,
    Other,
}

const fn kind(sql: &'static str, class: Class, values: &'static [&'static str]) -> Kind {
    Kind { sql, collation: None, array: None, class, values }
}

pub(crate) const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "ab",
    "aB ",
    "b",
    "é",
    "İı",
    "I",
    "i",
    "😀",
    "a_b%",
    "\\",
    "\"q\" \\ \n\t\u{1}\u{7f}",
    "NULL",
    "t",
    " tRu\n",
    "of",
    "o",
    "yes",
    "0",
    "1",
    "-0",
    "+5",
    " 12 ",
    "0012",
    "12.50",
    ".5",
    "5.",
    "-0.00",
    ".",
    "1e3",
    "0x1F",
    "1_000",
    "32767",
    "32768",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "99999999999999999999",
    "NaN",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
    "a0eebc999c0b4ef8bb6d6bb9bd380a1",
    "2024-02-29",
    "2023-02-29",
    "2024-02-29 12:00:00.5",
    "2024-02-29 12:00:00+00",
    "12:00:00",
    "sad",
    "ok",
    "OK",
    "{\"a\": 1}",
    "null",
    "true",
];

const INTS: &[&str] = &["0", "1", "2", "-1", "12", "32767", "-32768"];

pub(crate) const KINDS: &[Kind] = &[
    kind("bool", Class::Other, &["t", "f"]),
    kind("int2", Class::Int, INTS),
    Kind {
        array: Some("int4[]"),
        ..kind(
            "int4",
            Class::Int,
            &["0", "1", "2", "-1", "12", "32768", "999999", "1000000", "2147483647", "-2147483648"],
        )
    },
    kind(
        "int8",
        Class::Int,
        &[
            "0",
            "1",
            "12",
            "2147483648",
            "999999999999999",
            "1000000000000000",
            "9223372036854775807",
            "-9223372036854775808",
        ],
    ),
    kind(
        "numeric",
        Class::Other,
        &[
            "0",
            "-0.00",
            "1",
            "1.0",
            "12.50",
            "0.5",
            "-0.5",
            "2.5",
            "-2.5",
            "32767.5",
            "1e3",
            "1e40",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
    ),
    kind("float4", Class::Other, &["0", "-0", "1", "0.1", "2.5", "3.5", "1e6", "1e-5", "NaN", "Infinity", "-Infinity"]),
    kind(
        "float8",
        Class::Other,
        &[
            "0",
            "-0",
            "1",
            "0.1",
            "2.5",
            "3.5",
            "-0.4",
            "1e15",
            "1e300",
            "9.3e18",
            "5e-324",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
    ),
    Kind { array: Some("text[]"), ..kind("text", Class::Text, TEXTS) },
    Kind { collation: Some("C"), ..kind("varchar", Class::Text, TEXTS) },
    kind("bpchar", Class::Other, TEXTS),
    kind("name", Class::Text, &["", "a", "A", "ab", "é", "1", "t", "sad"]),
    Kind {
        array: Some("uuid[]"),
        ..kind(
            "uuid",
            Class::Other,
            &[
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
            ],
        )
    },
    kind(
        "date",
        Class::Other,
        &[
            "2024-02-29",
            "2024-03-01",
            "1999-12-31",
            "0044-03-15 BC",
            "infinity",
            "-infinity",
            "294276-12-31",
            "294277-01-01",
            "10000-01-01",
        ],
    ),
    kind("time", Class::Other, &["00:00:00", "12:00:00", "12:00:00.5", "24:00:00"]),
    kind(
        "timestamp",
        Class::Other,
        &[
            "2024-02-29 12:00:00.5",
            "2024-02-29 00:00:00",
            "0044-03-15 12:00:00 BC",
            "infinity",
            "-infinity",
            "10000-01-01 00:00:00",
        ],
    ),
    kind(
        "timestamptz",
        Class::Other,
        &["2024-02-29 12:00:00+00", "2024-02-29 12:00:00+02", "infinity", "0044-03-15 12:00:00+00 BC"],
    ),
    kind("jsonb", Class::Other, JSONS),
    Kind { array: Some("mood[]"), ..kind("mood", Class::Other, &["sad", "ok", "a \"b\", c"]) },
    kind("int4[]", Class::Array, &["{}", "{1}", "{1,2,NULL}", "{{0,1},{2,12}}", "[0:1]={5,-1}", "{NULL}"]),
    kind(
        "text[]",
        Class::Array,
        &["{}", "{a,b}", "{\"a b\",\"\\\\\",\"\\\"\"}", "{NULL,\"NULL\",a}", "{a,\" -1 \"}", "{0}", "{b,1}"],
    ),
    kind("uuid[]", Class::Array, &["{}", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}"]),
    kind("mood[]", Class::Array, &["{}", "{sad,NULL}", "{\"a \\\"b\\\", c\",ok}"]),
];

const JSONS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-2.50",
    "1e2",
    "99999999999999999999",
    r#""""#,
    r#""a""#,
    r#""\"\\\/\b\f\n\r\t\u0001é\u00e9😀""#,
    "[]",
    "{}",
    r#"[1, "a", null, [true, {"a": "]"}], {"b": "x,y"}]"#,
    r#"{"a": 1, "b": "x", "": null, "é": [1.0, 1.00], "\"\\\n": {}}"#,
    r#"{"a": {"b": {"0": "deep", "a": [10, 20, {"b": "}"}]}}, "b": false}"#,
    r#"{"a": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b": "12", "aa": "t"}"#,
    r#"{"a": 1.0, "b": [1, 2.0]}"#,
    r#"{"a": 1.00, "b": [1.0, 2]}"#,
    r#"[1]"#,
    r#"[1.0]"#,
];

pub(crate) const PATTERNS: &[&str] =
    &["%", "", "a%", "%b", "%a%", "A_", "_", "__", "\\", "%\\", "a\\_b\\%", "I%", "é%", "%1%", "t%e", "\\\\%"];

/// Keys and, for `#>`, paths that the values of `jsonb` have, and some that they have not.
pub(crate) const KEYS: &[&str] = &["a", "b", "", "é", "\"\\\n", "aa", "0", "zz"];
pub(crate) const INDEXES: &[&str] = &["0", "1", "3", "-1", "-5", "-6", "2147483647", "-2147483648"];
pub(crate) const PATHS: &[&str] = &[
    "{}",
    "{a}",
    "{a,b}",
    "{a,b,a,2,b}",
    "{3,1,a}",
    "{é,-1}",
    "{4,b}",
    "{\" 1\"}",
    "{+1}",
    "{1x}",
    "{a,NULL}",
    "{b,1}",
    "{\"\"}",
];

/// Types that a type can be cast to.
pub(crate) fn targets(kind: &Kind) -> &'static [&'static str] {
    match kind.sql {
        "text" | "varchar" | "name" | "bpchar" => &[
            "bool",
            "int2",
            "int4",
            "int8",
            "numeric",
            "float4",
            "float8",
            "text",
            "varchar",
            "bpchar",
            "name",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "jsonb",
            "mood",
            "text[]",
        ],
        "bool" => &["text", "varchar", "bpchar", "int4"],
        "int4" => &["bool", "int2", "int8", "numeric", "float4", "float8", "text", "bpchar", "name"],
        "int2" | "int8" => &["int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar"],
        "numeric" | "float4" | "float8" => &["int2", "int4", "int8", "numeric", "float4", "float8", "text"],
        "date" => &["timestamp", "timestamptz", "text"],
        "timestamp" | "timestamptz" => &["date", "time", "timestamp", "timestamptz", "text"],
        "jsonb" => &["bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text"],
        "int4[]" => &["text[]", "text"],
        "uuid[]" | "mood[]" => &["text[]"],
        "text[]" => &["int4[]", "uuid[]"],
        _ => &["text", "varchar"],
    }
}
