//! Operands of a subscriber's filter, checked and made canonical by Postgres itself.

use reactor_model::Code;
use reactor_model::filter::{Condition, Operand, Operation};
use reactor_model::relation::TypeKind;
use reactor_pg::catalog::RelationInfo;
use reactor_pg::{Client, PgError, PgErrorKind};
use reactor_policy_engine::Denial;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::acting::raised;
use crate::sql::{ComparedColumn, Operators, ResolvedOperator, TextParam, is_pattern};

/// What of a refused value is repeated to the client who sent it.
const SHOWN_CHARS: usize = 100;

/// Why an operand has no canonical form.
#[derive(Debug)]
pub(crate) enum ValueError {
    /// The client must change it.
    Refused(Denial),
    /// Postgres could not be asked.
    NoAnswer(PgError),
}

impl From<PgError> for ValueError {
    fn from(error: PgError) -> Self {
        Self::NoAnswer(error)
    }
}

/// The operand of a condition as the column's type prints it; patterns and keywords stay as they are.
/// Each value is a statement of its own, all in one flight, so that the one that is wrong can be named.
pub(crate) async fn canonical(
    client: &Client,
    operators: &Operators,
    info: &RelationInfo,
    index: usize,
    condition: &Condition,
) -> Result<Operand, ValueError> {
    let operation = &condition.operation;
    let Some(column) = ComparedColumn::new(info, index) else {
        return Err(ValueError::Refused(no_type(condition)));
    };
    let resolved = operators.resolve(client, &column, operation.operator).await?;
    let check = async |value: &String| check_one(client, &column, &resolved, info, index, condition, value).await;
    Ok(match &operation.operand {
        Operand::Keyword(keyword) => Operand::Keyword(*keyword),
        Operand::Text(value) => Operand::Text(check(value).await?),
        Operand::List(values) => Operand::List(futures::future::try_join_all(values.iter().map(check)).await?),
    })
}

async fn check_one(
    client: &Client,
    column: &ComparedColumn<'_>,
    resolved: &ResolvedOperator,
    info: &RelationInfo,
    index: usize,
    condition: &Condition,
    value: &str,
) -> Result<String, ValueError> {
    let operator = condition.operation.operator;
    let single = Operation { operator, operand: Operand::Text(value.to_owned()) };
    // A pattern is run against an empty text, which compiles it. Of another comparison only the types matter.
    let pattern = is_pattern(operator);
    let left = if pattern { "''" } else { "null" };
    let (comparison, mut params) = column.comparison(left, &single, resolved, 1);
    let sql = if pattern {
        format!("select {comparison}, $2")
    } else {
        // `format` prints with the type's output function, which a cast to text does not do for every type.
        format!("select {comparison}, pg_catalog.format('%s', $2)")
    };
    let as_value = if pattern { tokio_postgres::types::Type::TEXT } else { column.param_type() };
    params.push((TextParam(value), as_value));
    let params: Vec<(&(dyn ToSql + Sync), _)> =
        params.iter().map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone())).collect();
    match client.query_typed(&sql, &params).await {
        Ok(rows) => match rows.first() {
            Some(row) => Ok(row.try_get(1).map_err(PgError::from)?),
            None => Err(ValueError::NoAnswer(PgError::new(PgErrorKind::Other, "a statement gave no row"))),
        },
        Err(error) => Err(match error.as_db_error() {
            // A pattern that runs into the deadline is the client's fault as well.
            Some(db) if raised(db.code()) => {
                ValueError::Refused(refusal(db.code(), db.message(), info, index, condition, value))
            }
            _ => ValueError::NoAnswer(error.into()),
        }),
    }
}

fn refusal(
    state: &SqlState,
    said: &str,
    info: &RelationInfo,
    index: usize,
    condition: &Condition,
    value: &str,
) -> Denial {
    let column = &condition.column;
    let operator = condition.operation.operator;
    let type_name = info.cast_types.get(index).map(String::as_str).unwrap_or_default();
    let message = match *state {
        SqlState::UNDEFINED_FUNCTION | SqlState::AMBIGUOUS_FUNCTION | SqlState::FEATURE_NOT_SUPPORTED => {
            format!("operator `{operator}` does not apply to column `{column}` of type {type_name}")
        }
        _ if is_pattern(operator) => format!("filter on column `{column}`: {said}"),
        _ => format!("filter on column `{column}`: `{}` is not a value of type {type_name}", shown(value)),
    };
    Denial { code: Code::BadFilter, message, hint: hint(info, index) }
}

fn hint(info: &RelationInfo, index: usize) -> String {
    let relation = &info.relation;
    let base = relation.columns.get(index).and_then(|column| relation.base_type(column.type_oid));
    match base.map(|(_, base)| &base.kind) {
        Some(TypeKind::Enum { labels }) => format!("allowed values are {}", labels.join(", ")),
        _ => "write the value as Postgres accepts it for the column's type".to_owned(),
    }
}

fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

fn no_type(condition: &Condition) -> Denial {
    Denial {
        code: Code::BadFilter,
        message: format!("the type of column `{}` is not known", condition.column),
        hint: Code::BadFilter.remedy().to_owned(),
    }
}
