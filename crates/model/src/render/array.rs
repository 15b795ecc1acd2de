//! Arrays from their text form: `{a,"b c",NULL}`, with dimensions nested and bounds before an `=` if they are unusual.

use super::WriteElement;

/// Dimensions that Postgres allows (`MAXDIM`).
const MAX_DIMENSIONS: usize = 6;

/// Appends an array. `element` appends one element.
pub(super) fn write_array(out: &mut Vec<u8>, text: &[u8], delimiter: char, element: WriteElement<'_>) -> Option<()> {
    let delimiter = u8::try_from(delimiter).ok()?;
    let mut rest = match text.first()? {
        b'[' => text.get(text.iter().position(|byte| *byte == b'=')? + 1..)?,
        _ => text,
    };
    let mut unescaped = Vec::new();
    let mut depth = 0;
    loop {
        match rest.first()? {
            b'{' => {
                depth += 1;
                out.push(b'[');
                rest = rest.get(1..)?;
                if depth > MAX_DIMENSIONS {
                    return None;
                }
                if rest.first()? != &b'}' {
                    continue;
                }
            }
            b'"' if depth > 0 => {
                rest = quoted(rest, &mut unescaped)?;
                element(out, &unescaped)?;
            }
            _ if depth > 0 => {
                let len = rest.iter().position(|byte| *byte == delimiter || *byte == b'}')?;
                match rest.get(..len)? {
                    b"" => return None,
                    b"NULL" => out.extend_from_slice(b"null"),
                    value => element(out, value)?,
                }
                rest = rest.get(len..)?;
            }
            _ => return None,
        }
        while let Some(after) = rest.strip_prefix(b"}") {
            depth = usize::checked_sub(depth, 1)?;
            out.push(b']');
            rest = after;
        }
        if depth == 0 {
            return rest.is_empty().then_some(());
        }
        rest = rest.strip_prefix(&[delimiter])?;
        out.push(b',');
    }
}

/// Reads a quoted element into `value`; what follows it.
fn quoted<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    value.clear();
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        value.extend_from_slice(rest.get(..len)?);
        match rest.get(len..)? {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            _ => return None,
        }
    }
}

/// Appends an `int2vector` or `oidvector`, whose elements stand between blanks.
pub(super) fn write_vector(
    out: &mut Vec<u8>,
    text: &[u8],
    element: fn(&mut Vec<u8>, &[u8]) -> Option<()>,
) -> Option<()> {
    out.push(b'[');
    for (index, value) in text.split(|byte| *byte == b' ').filter(|value| !value.is_empty()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        element(out, value)?;
    }
    out.push(b']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::render_string;
    use super::*;

    #[track_caller]
    fn check(text: &str, delimiter: char, expected: Option<&str>) {
        let mut out = Vec::new();
        let written = write_array(&mut out, text.as_bytes(), delimiter, &mut render_string);
        assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn arrays_nest_by_their_dimensions() {
        check("{}", ',', Some("[]"));
        check("{a,NULL,\"NULL\"}", ',', Some(r#"["a",null,"NULL"]"#));
        check("{{a,b},{c,d}}", ',', Some(r#"[["a","b"],["c","d"]]"#));
        check("[2:3]={a,b}", ',', Some(r#"["a","b"]"#));
        check(r#"{"a\"b","c\\d","e,f",""}"#, ',', Some(r#"["a\"b","c\\d","e,f",""]"#));
        check("{(1,1),(0,0);(2,2),(1,1)}", ';', Some(r#"["(1,1),(0,0)","(2,2),(1,1)"]"#));
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in
            ["", "{", "}", "{a", "{a,}", "{a}b", "{\"a}", "{{{{{{{a}}}}}}}", "[1:2]", "a", "{}}", "{\"a\"b}", "\"a\""]
        {
            check(text, ',', None);
        }
    }
}
