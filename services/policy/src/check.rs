//! Rows judged by Postgres: by the policies of their table for a role with its claims.

use futures::future::BoxFuture;
use reactor_pg::catalog::RelationInfo;
use reactor_policy_engine::{AuthorizerError, CheckRequest, CheckedRow, CheckedValue};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::access::{DatabaseGrant, TableAccess};
use crate::acting::{Acting, Actors, Failure, Param, Statement, Unanswered};
use crate::bindings::plain_text;
use crate::names::{qualified, quoted};
use crate::policies::RowSecurity;
use crate::session::no_answer;
use crate::sql::{ComparedColumn, Operators};

/// Rows are looked up by their keys one by one: a plan that reads the whole table would judge, and raise for, rows that
/// nobody asked about. The cost that stands for "off" must not make Postgres compile the plan.
const LOOKUP: &[(&str, &str)] = &[("enable_seqscan", "off"), ("jit", "off")];

/// What of a row policy is asked of Postgres.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// As SQL over the table's columns.
    pub(crate) sql: String,
    /// What of it does not decide by itself whether the role finds a row: the configured rules.
    pub(crate) rules: Option<String>,
    /// The columns whose values it needs; `None` for all.
    pub(crate) columns: Option<Vec<String>>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Visible,
    Hidden,
    Raised,
}

/// Judges rows of one table.
pub(crate) struct Check<'a> {
    pub(crate) actors: &'a Actors,
    pub(crate) acting: Acting,
    pub(crate) access: &'a TableAccess,
    pub(crate) condition: &'a Condition,
    pub(crate) keys: Option<Vec<Key>>,
}

/// A column of the primary key, as it is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    index: usize,
    /// `"table"."column" operator(…) (value)::type`, around the value.
    comparison: (String, String),
}

/// How the rows of a table are looked up as the role: by the primary key, and only where its own policies decide what is
/// there for it. `None` where that cannot be.
pub(crate) async fn keys(
    client: &reactor_pg::Client,
    operators: &Operators,
    access: &TableAccess,
) -> Result<Option<Vec<Key>>, reactor_pg::PgError> {
    let info = &access.info;
    if access.security == RowSecurity::Off || !access.role.exists {
        return Ok(None);
    }
    let mut keys = Vec::new();
    for (index, column) in info.relation.columns.iter().enumerate().filter(|(_, column)| column.primary_key) {
        let readable = match &access.grant {
            DatabaseGrant::Table => true,
            DatabaseGrant::Columns(columns) => columns.contains(&column.name),
            DatabaseGrant::NoRole | DatabaseGrant::NoSchema | DatabaseGrant::Nothing => false,
        };
        let compared = ComparedColumn::new(info, index).filter(|_| readable);
        let Some(compared) = compared else {
            return Ok(None);
        };
        let operator = operators.resolve(client, &compared, reactor_model::filter::Operator::Eq).await?;
        let (table, column) = (quoted(&info.relation.table), quoted(&column.name));
        let before = format!("{table}.{column} {} (", operator.as_sql());
        keys.push(Key { index, comparison: (before, format!(")::{}", compared.cast_type)) });
    }
    Ok(Some(keys).filter(|keys| !keys.is_empty()))
}

/// One row with what is asked about it.
struct Asked<'a> {
    place: usize,
    /// Its key, when it must be there.
    key: Option<Vec<&'a str>>,
    /// The values that its [`Image`] is made of, when all that the policy needs are known.
    values: Option<Vec<Option<String>>>,
}

impl Check<'_> {
    /// The verdicts in the order of the rows.
    pub(crate) async fn run(&self, request: &CheckRequest) -> Result<Vec<Verdict>, Unanswered> {
        let columns = Columns::of(request, &self.access.info);
        let image = Image::of(&self.access.info, self.condition);
        let mut verdicts = vec![Verdict::Hidden; request.rows.len()];
        let mut asked = Vec::new();
        for (place, row) in request.rows.iter().enumerate() {
            let keys = self.keys.as_ref().filter(|_| row.must_exist);
            let key = keys.and_then(|keys| columns.key(row, keys));
            if key.is_none() && keys.is_some() {
                // Whether it is still there cannot be asked.
                continue;
            }
            let values = columns.values(row, &image);
            // A row of which nothing can be asked is not seen.
            if key.is_some() || values.is_some() {
                asked.push(Asked { place, key, values });
            }
        }
        for (place, verdict) in self.judge(&asked, &image, By::Values).await? {
            if let Some(slot) = verdicts.get_mut(place) {
                *slot = verdict;
            }
        }
        Ok(verdicts)
    }

    /// Halves what raises until the row that does is alone.
    fn judge<'b>(
        &'b self,
        rows: &'b [Asked<'b>],
        image: &'b Image,
        by: By,
    ) -> BoxFuture<'b, Result<Vec<(usize, Verdict)>, Unanswered>> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            match self.actors.run(&self.acting, self.statements(rows, image, by)).await? {
                Ok(answers) => {
                    let mut verdicts: Vec<_> = rows.iter().map(|row| (row.place, Verdict::Visible)).collect();
                    for answer in answers.iter().filter_map(|rows| rows.first()) {
                        let truths: Vec<bool> = answer.try_get(0).map_err(no_answer)?;
                        if truths.len() != verdicts.len() {
                            let what = "Postgres answered about another number of rows";
                            return Err(AuthorizerError::Unavailable(what.to_owned()).into());
                        }
                        for (verdict, _) in verdicts.iter_mut().zip(truths).filter(|(_, truth)| !truth) {
                            verdict.1 = Verdict::Hidden;
                        }
                    }
                    Ok(verdicts)
                }
                Err(Failure::Role) => Err(Unanswered::Role),
                // What took too long as a whole is not tried in parts: that would take longer still.
                Err(failure) if failure.took_too_long() => Err(AuthorizerError::Timeout.into()),
                Err(Failure::Raised(state, _)) if by == By::Values && self.may_compare(&state, rows) => {
                    self.judge(rows, image, By::Presence).await
                }
                Err(Failure::Raised(..)) if rows.len() <= 1 => {
                    Ok(rows.iter().map(|row| (row.place, Verdict::Raised)).collect())
                }
                Err(Failure::Raised(..)) => {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    let (mut left, right) =
                        futures::try_join!(self.judge(left, image, by), self.judge(right, image, by))?;
                    left.extend(right);
                    Ok(left)
                }
            }
        })
    }

    /// Whether it may help to ask for the rows themselves instead.
    fn may_compare(&self, state: &SqlState, rows: &[Asked<'_>]) -> bool {
        *state == SqlState::INSUFFICIENT_PRIVILEGE && rows.iter().any(|row| row.key.is_some())
    }

    fn statements(&self, rows: &[Asked<'_>], image: &Image, by: By) -> Vec<Statement> {
        let mut statements = Vec::new();
        if let (By::Presence, Some(keys)) = (by, &self.keys) {
            return vec![self.presence(rows, keys, Some(image))];
        }
        if let Some(keys) = &self.keys
            && rows.iter().any(|row| row.key.is_some())
        {
            statements.push(self.presence(rows, keys, None));
        }
        statements.push(values(self.access, rows, &self.condition.sql, image));
        statements
    }

    /// Whether each row is there for the role, and the rules are true for it as it is now: what it was may not be known. With
    /// an image, the row must still have its values; then one without a key is nowhere.
    fn presence(&self, rows: &[Asked<'_>], keys: &[Key], image: Option<&Image>) -> Statement {
        let relation = &self.access.info.relation;
        let alias = quoted(&relation.table);
        let mut names: Vec<String> = (1..=keys.len()).map(|number| format!("reactor_k{number}")).collect();
        let mut conditions: Vec<String> = keys
            .iter()
            .zip(&names)
            .map(|(key, name)| format!("{}reactor_asked.{name}{}", key.comparison.0, key.comparison.1))
            .collect();
        conditions.extend(self.condition.rules.as_ref().map(|rules| format!("({rules}\n)")));
        let column = |index: usize| -> Vec<Option<String>> {
            let value = |row: &Asked<'_>| Some((*row.key.as_ref()?.get(index)?).to_owned());
            rows.iter().map(value).collect()
        };
        let mut params: Vec<Param> =
            (0..keys.len()).map(|index| -> Param { (Box::new(column(index)), Type::TEXT_ARRAY) }).collect();
        let otherwise = match image {
            None => "reactor_asked.reactor_k1 is null or ",
            Some(image) => {
                let mut same = Vec::new();
                for (place, index) in image.indexes(relation.columns.len()).into_iter().enumerate() {
                    let Some(column) = relation.columns.get(index) else { continue };
                    let value = plain_text(&format!("{alias}.{}", quoted(&column.name)));
                    same.push(format!("({value}) is not distinct from reactor_asked.reactor_v{place}"));
                    names.push(format!("reactor_v{place}"));
                    let value = |row: &Asked<'_>| row.values.as_ref()?.get(place)?.clone();
                    params.push((Box::new(rows.iter().map(value).collect::<Vec<_>>()), Type::TEXT_ARRAY));
                }
                if !same.is_empty() {
                    conditions.push(format!("(not reactor_asked.reactor_known or ({}))", same.join(" and ")));
                    names.push("reactor_known".to_owned());
                    let known: Vec<bool> = rows.iter().map(|row| row.values.is_some()).collect();
                    params.push((Box::new(known), Type::BOOL_ARRAY));
                }
                ""
            }
        };
        let arrays: Vec<String> = (1..=params.len()).map(|number| format!("pg_catalog.unnest(${number})")).collect();
        let sql = format!(
            "select array(select {otherwise}coalesce((select true from {} as {alias} where {} limit 1), false)
                            from rows from ({}) with ordinality reactor_asked({}, reactor_place)
                           order by reactor_asked.reactor_place)",
            table(self.access),
            conditions.join(" and "),
            arrays.join(", "),
            names.join(", "),
        );
        Statement { sql, params }
    }
}

/// How rows are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By their values, and whether they are there.
    Values,
    /// Whether they are there for the role with just these values: then the policies are true for those. Postgres reads a
    /// policy that looks into a table with row security again as the role, which has no rights to the schemas that the
    /// policy names; it reads the policies of the table itself without any.
    Presence,
}

/// Whether the policy is true for each image. What stands in the row's place has the table's name, which the policy may
/// put before its columns.
fn values(access: &TableAccess, rows: &[Asked<'_>], condition: &str, image: &Image) -> Statement {
    let names: Vec<String> = (0..image.width()).map(|index| format!("reactor_{index}")).collect();
    let value = |name: &String| format!("reactor_asked.{name}");
    let row = match image {
        Image::Columns(columns) => {
            let columns = columns.iter().zip(&names);
            let columns = columns.map(|(column, name)| format!("{}{}{}", column.before, value(name), column.after));
            format!("(select {})", columns.collect::<Vec<_>>().join(", "))
        }
        Image::Row => {
            let values: Vec<String> = names.iter().map(value).collect();
            format!("pg_catalog.unnest(array[({})::{}])", values.concat(), table(access))
        }
    };
    let arrays: String = (0..names.len()).map(|index| format!(", pg_catalog.unnest(${})", index + 2)).collect();
    let names: String = names.iter().map(|name| format!("{name}, ")).collect();
    let alias = quoted(&access.info.relation.table);
    let sql = format!(
        "select array(select not reactor_asked.reactor_known
                             or coalesce((select ({condition}\n) from {row} as {alias}), false)
                        from rows from (pg_catalog.unnest($1){arrays}) with ordinality
                             as reactor_asked(reactor_known, {names}reactor_place)
                       order by reactor_asked.reactor_place)",
    );
    let known: Vec<bool> = rows.iter().map(|row| row.values.is_some()).collect();
    let mut params: Vec<Param> = vec![(Box::new(known), Type::BOOL_ARRAY)];
    for index in 0..image.width() {
        let value = |row: &Asked<'_>| image.text(row.values.as_ref()?, index);
        params.push((Box::new(rows.iter().map(value).collect::<Vec<_>>()), Type::TEXT_ARRAY));
    }
    Statement { sql, params }
}

fn table(access: &TableAccess) -> String {
    qualified(&access.info.relation.schema, &access.info.relation.table)
}

/// The condition asked about no rows: what Postgres says of it is about its text.
pub(crate) fn trial(access: &TableAccess, condition: &Condition) -> Statement {
    values(access, &[], &condition.sql, &Image::of(&access.info, condition))
}

/// The settings under which rows are looked up.
pub(crate) fn looking_up(mut acting: Acting) -> Acting {
    acting.settings = LOOKUP;
    acting
}

/// What stands in the place of a row when a policy is asked about its values.
enum Image {
    /// The columns that the policy needs, by index.
    Columns(Vec<ImageColumn>),
    /// The whole row, which the policy names.
    Row,
}

struct ImageColumn {
    index: usize,
    before: String,
    after: String,
}

impl Image {
    fn of(info: &RelationInfo, condition: &Condition) -> Self {
        let Some(names) = &condition.columns else {
            return Self::Row;
        };
        let column = |name: &String| {
            let index = info.relation.column_index(name)?;
            let (before, after) = ComparedColumn::new(info, index)?.around();
            Some(ImageColumn { index, before, after: format!("{after} as {}", quoted(name)) })
        };
        names.iter().map(column).collect::<Option<_>>().map_or(Self::Row, Self::Columns)
    }

    fn width(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.len(),
            Self::Row => 1,
        }
    }

    /// The columns whose values it is made of, of so many.
    fn indexes(&self, columns: usize) -> Vec<usize> {
        match self {
            Self::Columns(columns) => columns.iter().map(|column| column.index).collect(),
            Self::Row => (0..columns).collect(),
        }
    }

    /// The text in one of its places.
    fn text(&self, values: &[Option<String>], place: usize) -> Option<String> {
        match self {
            Self::Columns(_) => values.get(place)?.clone(),
            Self::Row => Some(composite(values)),
        }
    }
}

/// Where the values of a request are: for each column of the table its place in the request.
struct Columns(Vec<Option<usize>>);

impl Columns {
    fn of(request: &CheckRequest, info: &RelationInfo) -> Self {
        let place = |name: &str| request.columns.iter().position(|column| column == name);
        Self(info.relation.columns.iter().map(|column| place(&column.name)).collect())
    }

    fn value<'r>(&self, row: &'r CheckedRow, index: usize) -> &'r CheckedValue {
        let place = self.0.get(index).copied().flatten();
        place.and_then(|place| row.values.get(place)).unwrap_or(&CheckedValue::Missing)
    }

    fn key<'r>(&self, row: &'r CheckedRow, keys: &[Key]) -> Option<Vec<&'r str>> {
        let text = |key: &Key| match self.value(row, key.index) {
            CheckedValue::Text(text) => Some(text.as_str()),
            CheckedValue::Missing | CheckedValue::Null => None,
        };
        keys.iter().map(text).collect()
    }

    /// `None` when a value that is needed is missing.
    fn values(&self, row: &CheckedRow, image: &Image) -> Option<Vec<Option<String>>> {
        let known = |index: usize| match self.value(row, index) {
            CheckedValue::Missing => None,
            CheckedValue::Null => Some(None),
            CheckedValue::Text(text) => Some(Some(text.clone())),
        };
        image.indexes(self.0.len()).into_iter().map(known).collect()
    }
}

/// A row as its composite type reads it.
fn composite(values: &[Option<String>]) -> String {
    let mut text = String::from("(");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if let Some(value) = value {
            quote(value, &mut text);
        }
    }
    text.push(')');
    text
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push(character);
        }
        out.push(character);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_a_composite_reads_them() {
        let values = [Some(r#"a "b" \c, (d)"#.to_owned()), None, Some(String::new())];
        assert_eq!(composite(&values), r#"("a ""b"" \\c, (d)",,"")"#);
    }
}
