//! `hstore` from its text form: `"a"=>"1", "b"=>NULL`. The type itself keeps keys unique and in `jsonb`'s order.

use super::string::write_string;

/// Appends an `hstore` as an object of strings and nulls.
pub(super) fn write_hstore(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let mut rest = std::str::from_utf8(text).ok()?;
    out.push(b'{');
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        write_string(out, &key);
        out.push(b':');
        let value = after.strip_prefix("=>")?;
        rest = match value.strip_prefix("NULL") {
            Some(after) => {
                out.extend_from_slice(b"null");
                after
            }
            None => {
                let (value, after) = quoted(value)?;
                write_string(out, &value);
                after
            }
        };
        if let Some(next) = rest.strip_prefix(", ").filter(|next| !next.is_empty()) {
            out.push(b',');
            rest = next;
        } else if !rest.is_empty() {
            return None;
        }
    }
    out.push(b'}');
    Some(())
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_members() {
        let check = |text: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let written = write_hstore(&mut out, text.as_bytes());
            assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
        };
        check("", Some("{}"));
        check(r#""a"=>"1", "b\"c"=>NULL"#, Some(r#"{"a":"1","b\"c":null}"#));
        check(r#""a"=>"1", "#, None);
        check(r#""a"=>"1""b"=>"2""#, None);
        check(r#""a""#, None);
    }
}
