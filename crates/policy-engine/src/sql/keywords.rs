//! Words with a meaning of their own in Postgres's grammar.

/// Reserved words: none is a name of a column or a function unless quoted. Sorted.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Words that may name a function or type, but not a column, unless quoted. Sorted.
const TYPE_OR_FUNCTION: &[&str] = &[
    "authorization",
    "binary",
    "collation",
    "concurrently",
    "cross",
    "current_schema",
    "freeze",
    "full",
    "ilike",
    "inner",
    "is",
    "isnull",
    "join",
    "left",
    "like",
    "natural",
    "notnull",
    "outer",
    "overlaps",
    "right",
    "similar",
    "tablesample",
    "verbose",
];

/// Calls with a syntax of their own, left to Postgres. Sorted.
const SPECIAL_CALLS: &[&str] = &[
    "extract",
    "grouping",
    "interval",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "merge_action",
    "normalize",
    "overlay",
    "position",
    "row",
    "setof",
    "substring",
    "treat",
    "trim",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Words that name neither a function nor a type, nor a column by themselves in an expression, unless quoted. Sorted.
const COLUMN_ONLY: &[&str] = &["between", "coalesce", "exists", "greatest", "least", "nullif", "values"];

/// Words that end a table's or an output column's alias which has no `AS`. Sorted.
const NOT_AN_ALIAS: &[&str] = &[
    "day",
    "filter",
    "hour",
    "minute",
    "month",
    "over",
    "overlay",
    "precision",
    "second",
    "set",
    "varying",
    "within",
    "without",
    "year",
];

/// Whether the unquoted word cannot be a column's name.
pub(crate) fn is_reserved(word: &str) -> bool {
    contains(RESERVED, word) || contains(TYPE_OR_FUNCTION, word) || contains(COLUMN_ONLY, word)
}

/// Whether the unquoted word cannot be a function's name.
pub(super) fn is_no_function(word: &str) -> bool {
    contains(RESERVED, word) || contains(COLUMN_ONLY, word)
}

/// Whether a call of this unquoted name has a syntax of its own.
pub(super) fn is_special_call(word: &str) -> bool {
    contains(SPECIAL_CALLS, word)
}

/// Whether the word means something of its own somewhere.
pub(super) fn is_keyword(word: &str) -> bool {
    is_reserved(word) || is_special_call(word) || contains(NOT_AN_ALIAS, word)
}

/// Whether the unquoted word can be an alias without `AS`.
pub(super) fn is_alias(word: &str) -> bool {
    !is_reserved(word) && !contains(NOT_AN_ALIAS, word)
}

fn contains(words: &[&str], word: &str) -> bool {
    words.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [RESERVED, TYPE_OR_FUNCTION, SPECIAL_CALLS, COLUMN_ONLY, NOT_AN_ALIAS] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }
}
