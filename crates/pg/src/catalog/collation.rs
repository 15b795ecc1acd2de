//! How a collation compares, as far as it can be known outside Postgres.

use reactor_model::relation::Collation;

/// SQL for the columns that [`class`] takes: `collation` is an alias of `pg_collation`, joined from the left.
/// The database's default collation is looked through to the database's own locale.
pub(super) fn columns(collation: &str) -> String {
    format!(
        "case when {collation}.collprovider = 'd' then coalesce(to_jsonb(db)->>'datlocprovider', 'c')
              else {collation}.collprovider::text end as provider,
         case when {collation}.collprovider = 'd' then db.datcollate::text else {collation}.collcollate::text end as locale,
         {collation}.collisdeterministic as deterministic,
         pg_catalog.pg_encoding_to_char(db.encoding)::text as encoding"
    )
}

/// The class of a collation from the columns of [`columns`]; a missing provider means a type without collation.
pub(super) fn class(provider: Option<&str>, locale: Option<&str>, deterministic: bool, encoding: &str) -> Collation {
    let Some(provider) = provider else {
        return Collation::None;
    };
    if !deterministic {
        return Collation::Nondeterministic;
    }
    // Values arrive as UTF-8, whose byte order is that of the code points. Other encodings may order them otherwise.
    let same_order = matches!(encoding, "UTF8" | "LATIN1" | "SQL_ASCII");
    let by_code_point = match provider {
        "b" => true,
        "c" => locale.is_some_and(is_code_point_locale),
        _ => false,
    };
    if same_order && by_code_point { Collation::Bytes } else { Collation::Deterministic }
}

/// `C`, `POSIX`, and `C.UTF-8`, whose `strcoll` compares code points in every glibc that has it.
fn is_code_point_locale(locale: &str) -> bool {
    let normal: String = locale.to_ascii_lowercase().replace(['-', '_'], "");
    matches!(normal.as_str(), "c" | "posix" | "c.utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_point_orders_are_bytes() {
        assert_eq!(class(None, None, true, "UTF8"), Collation::None);
        for locale in ["C", "POSIX", "C.UTF-8", "C.utf8"] {
            assert_eq!(class(Some("c"), Some(locale), true, "UTF8"), Collation::Bytes, "{locale}");
        }
        assert_eq!(class(Some("b"), None, true, "UTF8"), Collation::Bytes);
        assert_eq!(class(Some("c"), Some("C"), true, "EUC_JP"), Collation::Deterministic);
        assert_eq!(class(Some("c"), Some("en_US.UTF-8"), true, "UTF8"), Collation::Deterministic);
        assert_eq!(class(Some("i"), None, true, "UTF8"), Collation::Deterministic);
        assert_eq!(class(Some("i"), None, false, "UTF8"), Collation::Nondeterministic);
    }
}
