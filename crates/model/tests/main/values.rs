//! Texts of random values, as a user may write them.

use proptest::prelude::*;
use proptest::strategy::Union;

pub(crate) type Texts = BoxedStrategy<String>;

/// One of these, or by another strategy.
fn or_one_of(strategy: impl Strategy<Value = String> + 'static, special: &'static [&'static str]) -> Texts {
    prop_oneof![3 => strategy, 1 => one_of(special)].boxed()
}

pub(crate) fn one_of(texts: &'static [&'static str]) -> Texts {
    proptest::sample::select(texts).prop_map(str::to_owned).boxed()
}

pub(crate) fn integer(min: i64, max: i64) -> Texts {
    prop_oneof![min..=max, (-3i64..=3).prop_map(move |value| value.clamp(min, max)), Just(min), Just(max)]
        .prop_map(|value| value.to_string())
        .boxed()
}

pub(crate) fn numeric() -> Texts {
    let special = &["NaN", "Infinity", "-Infinity", "0", "-0.00", "1e5", "1.50e-7", "1000000000000000000000"];
    or_one_of(prop_oneof!["-?[0-2](\\.[0-1]{1,3})?", "-?[0-9]{1,40}(\\.[0-9]{1,40})?"], special)
}

pub(crate) fn float8() -> Texts {
    let special =
        &["NaN", "Infinity", "-Infinity", "0", "-0", "1", "1e15", "1e16", "123456789012345678", "1e-5", "5e-324"];
    let any_bits = any::<u64>().prop_map(|bits| format!("{:?}", f64::from_bits(bits)).replace("inf", "Infinity"));
    or_one_of(prop_oneof![any_bits, "-?[0-9]{1,7}\\.[0-9]{1,7}"], special)
}

pub(crate) fn float4() -> Texts {
    let special = &["NaN", "Infinity", "-Infinity", "0", "-0", "1", "1e6", "1e7", "1e-5", "1e-45", "3.4028235e38"];
    let any_bits = any::<u32>().prop_map(|bits| format!("{:?}", f32::from_bits(bits)).replace("inf", "Infinity"));
    or_one_of(prop_oneof![any_bits, "-?[0-9]{1,4}\\.[0-9]{1,4}"], special)
}

/// Any text, often short ones that meet each other, often with what has a meaning in some text form.
pub(crate) fn text() -> Texts {
    let any_text = proptest::collection::vec(any::<char>().prop_filter("no NUL in Postgres", |c| *c != '\0'), 0..20);
    prop_oneof![
        "[abAB]{0,3}",
        "[ a\\\\\"'{}(),;:%_.\\*\\[\\]\n\t\u{1}/-]{0,8}",
        "[éßİıKſa\u{301}Ωω😀]{1,3}",
        any_text.prop_map(|chars| chars.into_iter().collect::<String>()),
        one_of(&["", " ", "a ", "a  ", "NULL", "null", "true", "\u{7f}", "\u{2028}"]),
    ]
    .boxed()
}

/// A text of at most this many bytes.
pub(crate) fn text_within(bytes: usize) -> Texts {
    text()
        .prop_map(move |mut text| {
            while text.len() > bytes {
                text.pop();
            }
            text
        })
        .boxed()
}

pub(crate) fn date() -> Texts {
    let day = (1u32..=9999, 1u32..=12, 1u32..=28, any::<bool>());
    let near = (1999u32..=2001, 1u32..=3, 1u32..=31)
        .prop_filter("a day of the calendar", |(_, month, day)| *month != 2 || *day <= 28)
        .prop_map(|(year, month, day)| format!("{year}-{month}-{day}"));
    let far = day.prop_map(|(year, month, day, bc)| {
        let (year, era) = if bc { (year % 4713 + 1, " BC") } else { (year, "") };
        format!("{year:04}-{month:02}-{day:02}{era}")
    });
    let special =
        &["infinity", "-infinity", "2000-02-29", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "20000-01-01"];
    or_one_of(prop_oneof![near, far], special)
}

pub(crate) fn time() -> Texts {
    let any_time = (0u32..24, 0u32..60, 0u32..60, 0u32..1_000_000)
        .prop_map(|(hour, minute, second, micros)| format!("{hour}:{minute}:{second}.{micros:06}"));
    or_one_of(any_time, &["00:00", "24:00", "12:00:00.5", "12:00:00.500", "23:59:59.999999"])
}

pub(crate) fn timestamp() -> Texts {
    let with_time = (date(), time()).prop_map(|(date, time)| match date.split_once(' ') {
        Some((day, era)) => format!("{day} {time} {era}"),
        None if date.contains("infinity") => date,
        None => format!("{date} {time}"),
    });
    or_one_of(with_time, &["infinity", "-infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC"])
}

pub(crate) fn timestamptz() -> Texts {
    let with_offset = (2000i32..2003, 1u32..=12, 1u32..=28, time(), -12i32..=14)
        .prop_map(|(year, month, day, time, offset)| format!("{year}-{month:02}-{day:02} {time}{offset:+03}"));
    prop_oneof![with_offset, timestamp()].boxed()
}

pub(crate) fn timetz() -> Texts {
    (time(), -12i32..=12).prop_map(|(time, offset)| format!("{time}{offset:+03}")).boxed()
}

pub(crate) fn interval() -> Texts {
    (-3i32..=3, -40i32..=40, -100_000i64..100_000)
        .prop_map(|(months, days, seconds)| format!("{months} mon {days} day {seconds}.25 sec"))
        .boxed()
}

/// JSON as people and programs write it: blanks, duplicate keys, escapes, exponents.
pub(crate) fn json() -> Texts {
    let string = prop_oneof![
        text().prop_map(|text| json_string(&text)),
        one_of(&[r#""\u0041\u00e9""#, r#""\ud83d\ude00""#, r#""\/\b\f\n\r\t\u001f""#, r#""""#]),
    ];
    let key = prop_oneof![2 => one_of(&[r#""a""#, r#""b""#, r#""aa""#, r#""é""#, r#""\u0061""#, r#""""#]), 1 => string.clone()];
    let number = one_of(&[
        "0",
        "-0",
        "1",
        "1.0",
        "1.00",
        "-12.50",
        "1e2",
        "1.5E+3",
        "2e-3",
        "-0.0",
        "123456789012345678901234567890",
        "1e30",
    ]);
    let leaf = prop_oneof![string, number, one_of(&["true", "false", "null", " {} ", "[ ]"])];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        let member = (key.clone(), inner.clone()).prop_map(|(key, value)| format!("{key} :{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(|parts| format!("[{}]", parts.join(" , "))),
            proptest::collection::vec(member, 0..5).prop_map(|parts| format!("{{ {} }}", parts.join(",\n"))),
        ]
    })
    .boxed()
}

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Arrays of one or two dimensions, some with bounds of their own.
pub(crate) fn array(element: Texts) -> Texts {
    let element = prop_oneof![
        4 => element.prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
        1 => Just("NULL".to_owned()),
    ];
    let row =
        |size: usize| proptest::collection::vec(element.clone(), size).prop_map(|row| format!("{{{}}}", row.join(",")));
    let rows = [1, 2, 4].map(row);
    let bounds = |(row, low): (String, i32)| format!("[{low}:{}]={row}", low + 1);
    let square = |(first, second): (String, String)| format!("{{{first},{second}}}");
    let square_with_bounds = |(first, second): (String, String)| format!("[-1:0][3:4]={{{first},{second}}}");
    prop_oneof![
        Just("{}".to_owned()),
        Union::new(rows.clone()),
        (rows[1].clone(), -2i32..3).prop_map(bounds),
        (rows[1].clone(), rows[1].clone()).prop_map(square),
        (rows[1].clone(), rows[1].clone()).prop_map(square_with_bounds),
    ]
    .boxed()
}

/// A composite's text from its fields' texts; some fields are NULL.
pub(crate) fn composite(fields: Vec<Texts>) -> Texts {
    let quoted = |field: Texts| {
        prop_oneof![
            4 => field.prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))),
            1 => Just(String::new()),
        ]
    };
    fields.into_iter().map(quoted).collect::<Vec<_>>().prop_map(|fields| format!("({})", fields.join(","))).boxed()
}

pub(crate) fn range(low: &'static str, middle: &'static str, high: &'static str) -> Texts {
    let bound =
        proptest::sample::select(vec![("", middle), (low, middle), (middle, high), (low, high), (low, ""), (low, low)]);
    (bound, proptest::sample::select(vec!["[", "("]), proptest::sample::select(vec!["]", ")"]))
        .prop_map(|((from, to), open, close)| format!("{open}{from},{to}{close}"))
        .boxed()
}
