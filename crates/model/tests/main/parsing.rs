//! The filter grammar.

use proptest::prelude::*;
use reactor_model::filter::{Condition, Filter, FilterError, IsKeyword, Operand, Operation, Operator};
use reactor_model::limits;

fn filters() -> impl Strategy<Value = Filter> {
    let text = prop_oneof!["[a-z0-9 ]{0,6}", "[a.,()\"\\\\=% é]{0,8}", any::<String>()];
    let scalars: Vec<_> =
        Operator::ALL.into_iter().filter(|operator| !matches!(operator, Operator::In | Operator::Is)).collect();
    let keywords = vec![IsKeyword::Null, IsKeyword::True, IsKeyword::False, IsKeyword::Unknown];
    let operations = prop_oneof![
        (proptest::sample::select(scalars), text.clone())
            .prop_map(|(operator, value)| Operation { operator, operand: Operand::Text(value) }),
        proptest::collection::vec(text, 0..5)
            .prop_map(|values| Operation { operator: Operator::In, operand: Operand::List(values) }),
        proptest::sample::select(keywords)
            .prop_map(|keyword| Operation { operator: Operator::Is, operand: Operand::Keyword(keyword) }),
    ];
    let columns = prop_oneof!["[a-z_]{1,8}", "[a.,()\"\\\\= é]{1,8}", Just("or".to_owned()), Just("not".to_owned())];
    let condition = (columns, any::<bool>(), operations)
        .prop_map(|(column, negated, operation)| Filter::Condition(Condition { column, negated, operation }));
    condition.prop_recursive(3, 20, 4, |inner| {
        let parts = || proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![parts().prop_map(Filter::And), parts().prop_map(Filter::Or)]
    })
}

/// The form that parsing gives: no group directly in one of its own kind.
fn flat(filter: Filter) -> Filter {
    match filter {
        Filter::And(parts) => Filter::all(parts.into_iter().map(flat).collect()),
        Filter::Or(parts) => {
            let unnested = parts.into_iter().map(flat).flat_map(|part| match part {
                Filter::Or(inner) => inner,
                Filter::And(_) | Filter::Condition(_) => vec![part],
            });
            Filter::Or(unnested.collect())
        }
        Filter::Condition(_) => filter,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_filters_parse_to_themselves(filter in filters()) {
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text), Ok(flat(filter)), "{}", text);
    }

    #[test]
    fn any_text_parses_or_is_refused(
        text in prop_oneof![any::<String>(), "(a|or|and|not|in|eq|is|null|[=.,()\"\\\\ ]){0,16}"],
        name in "or|and|a|not.or|",
    ) {
        for parsed in [Filter::parse(&text), Filter::parse_param(&name, &text)].into_iter().flatten() {
            prop_assert_eq!(Filter::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}

fn condition(column: &str, negated: bool, operator: Operator, operand: Operand) -> Filter {
    Filter::Condition(Condition { column: column.to_owned(), negated, operation: Operation { operator, operand } })
}

fn text(value: &str) -> Operand {
    Operand::Text(value.to_owned())
}

fn list(values: &[&str]) -> Operand {
    Operand::List(values.iter().map(|value| (*value).to_owned()).collect())
}

#[track_caller]
fn check(filter: &str, expected: Filter) {
    assert_eq!(Filter::parse(filter), Ok(expected), "{filter}");
}

#[test]
fn conditions_are_parsed() {
    check("", Filter::And(Vec::new()));
    check(" \n", Filter::And(Vec::new()));
    check("id=eq.1", condition("id", false, Operator::Eq, text("1")));
    check(" id=not.gte.1 ", condition("id", true, Operator::Gte, text("1")));
    check("id=eq.", condition("id", false, Operator::Eq, text("")));
    check("a=eq.1.5", condition("a", false, Operator::Eq, text("1.5")));
    check("a=eq.b=c", condition("a", false, Operator::Eq, text("b=c")));
    check("done=is.NULL", condition("done", false, Operator::Is, Operand::Keyword(IsKeyword::Null)));
    check("or=eq.1", condition("or", false, Operator::Eq, text("1")));
    check("\"a=,b\"=eq.1", condition("a=,b", false, Operator::Eq, text("1")));
    let both = vec![condition("a", false, Operator::Lt, text("1")), condition("b", false, Operator::Match, text("^x"))];
    check("a=lt.1, b=match.^x", Filter::And(both));
}

#[test]
fn quotes_and_parentheses_keep_commas_together() {
    let value = |value| condition("a", false, Operator::Eq, text(value));
    check(r#"a=eq."x,y""#, value("x,y"));
    check(r#"a=eq."x\"y\\z\%""#, value(r#"x"y\z\%"#));
    check(r#"a=eq."x"y"#, value(r#""x"y"#));
    check(r#"a=eq.5""#, value(r#"5""#));
    check(r#"a=eq."x"#, value(r#""x"#));
    check("a=eq.f(x,y)", value("f(x,y)"));
    check("a=eq.:)", value(":)"));
    let values = |values: &[&str]| condition("a", false, Operator::In, list(values));
    check(r#"a=in.(1, 2 ,"c,d","e)","\f","")"#, values(&["1", "2", "c,d", "e)", "f", ""]));
    check("a=in.()", values(&[]));
    check("a=in.(NULL)", values(&["NULL"]));
    check("a=in.((x),y)", values(&["(x)", "y"]));
}

#[test]
fn groups_are_parsed_and_flattened() {
    let is = |column, value| condition(column, false, Operator::Eq, text(value));
    check("or=(a.eq.1,b.eq.2)", Filter::Or(vec![is("a", "1"), is("b", "2")]));
    check("or=(a.eq.1,or(b.eq.2,c.eq.3))", Filter::Or(vec![is("a", "1"), is("b", "2"), is("c", "3")]));
    check("and=(a.eq.1,and(b.eq.2)),c=eq.3", Filter::And(vec![is("a", "1"), is("b", "2"), is("c", "3")]));
    check("or=(a.eq.1)", is("a", "1"));
    check(
        r#"or=("x.y".eq."1,2",b.not.in.(1,2))"#,
        Filter::Or(vec![is("x.y", "1,2"), condition("b", true, Operator::In, list(&["1", "2"]))]),
    );
    let either = Filter::Or(vec![is("a", "1"), Filter::And(vec![is("b", "2"), is("c", "3")])]);
    check("or=(a.eq.1, and(b.eq.2,c.eq.3)),d=eq.4", Filter::And(vec![either.clone(), is("d", "4")]));
    assert_eq!(Filter::parse_param("or", "(a.eq.1,and(b.eq.2,c.eq.3))"), Ok(either));
}

#[test]
fn a_parameter_has_its_value_for_itself() {
    let param = |value| Filter::parse_param("a", value);
    assert_eq!(param("eq.x,b=eq.1"), Ok(condition("a", false, Operator::Eq, text("x,b=eq.1"))));
    assert_eq!(param("not.in.(x,y)"), Ok(condition("a", true, Operator::In, list(&["x", "y"]))));
    assert_eq!(param(r#"eq."x,y""#), Ok(condition("a", false, Operator::Eq, text("x,y"))));
}

#[test]
fn errors_say_which_part_and_what_is_allowed() {
    let check = |filter: &str, message: &str| {
        let error = Filter::parse(filter).expect_err("a filter that is refused");
        assert_eq!(error.to_string(), message, "{filter}");
    };
    let allowed = "allowed are eq, neq, lt, lte, gt, gte, in, like, ilike, is, match, imatch, isdistinct, each also with `not.` before it";
    check("id=foo.1", &format!("unknown operator `foo` in `id=foo.1`: {allowed}"));
    check("id=1", &format!("unknown operator `1` in `id=1`: {allowed}"));
    check("id=not.not.eq.1", &format!("unknown operator `not` in `id=not.not.eq.1`: {allowed}"));
    check("id", "`id` is not a condition: expected `column=operator.value`");
    check("id=eq", "`id=eq` is not a condition: expected `column=operator.value`");
    check("or=(id)", "`id` is not a condition: expected `column.operator.value`");
    check("=eq.1", "`=eq.1` names no column");
    check("done=is.maybe", "unknown keyword `maybe` in `done=is.maybe`: `is` allows null, true, false, unknown");
    check("id=in.1,2", "`in` filter value must be wrapped by parentheses");
    check("id=in.(1,,2)", "filter must not contain empty segments (check for extra commas)");
    check("id=eq.1,", "filter must not contain empty segments (check for extra commas)");
    check("or=()", "filter must not contain empty segments (check for extra commas)");
    check("or=(a.eq.1)x", "`or=(a.eq.1)x` must be a list of conditions in parentheses, as in `or=(a.eq.1,b.gt.2)`");
    check("not.or=(a.eq.1)", "`not.or=(a.eq.1)` negates a group: put `not.` before each operator instead");
    check("or=(not.and(a.eq.1))", "`not.and(a.eq.1)` negates a group: put `not.` before each operator instead");
}

#[test]
fn filters_are_bounded() {
    let values = |count| format!("id=in.({})", vec!["1"; count].join(","));
    assert!(Filter::parse(&values(100)).is_ok());
    assert_eq!(
        Filter::parse(&values(101)).map_err(|error| error.to_string()),
        Err("too many values for `in` filter. Maximum 100".to_owned())
    );
    let nested = |depth| format!("or={}a.eq.1{}", "(or".repeat(depth - 1) + "(", ")".repeat(depth));
    assert!(Filter::parse(&nested(limits::MAX_FILTER_DEPTH)).is_ok());
    assert_eq!(Filter::parse(&nested(limits::MAX_FILTER_DEPTH + 1)), Err(FilterError::TooDeep));
    let many = |count| vec!["a=eq.1"; count].join(",");
    assert!(Filter::parse(&many(limits::MAX_FILTER_CONDITIONS)).is_ok());
    assert_eq!(Filter::parse(&many(limits::MAX_FILTER_CONDITIONS + 1)), Err(FilterError::TooManyConditions));
    let bytes = limits::MAX_FILTER_BYTES + 1;
    assert_eq!(Filter::parse(&"x".repeat(bytes)), Err(FilterError::TooLong { bytes }));
}
