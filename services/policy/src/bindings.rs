//! The parts of a policy without columns, evaluated by Postgres as the role with its claims.

use reactor_policy_engine::{AuthorizerError, Binding, BoundValue};
use tokio_postgres::Row;

use crate::acting::{Acting, Actors, Failure, Statement, Unanswered};

/// The most that are evaluated by one statement.
const AT_ONCE: usize = 100;

/// The values in the order of the bindings.
pub(crate) async fn evaluate(
    actors: &Actors,
    acting: &Acting,
    bindings: &[Binding],
) -> Result<Vec<BoundValue>, Unanswered> {
    let mut values = Vec::new();
    for chunk in bindings.chunks(AT_ONCE) {
        values.extend(together(actors, acting, chunk).await?);
    }
    Ok(values)
}

async fn together(actors: &Actors, acting: &Acting, bindings: &[Binding]) -> Result<Vec<BoundValue>, Unanswered> {
    match actors.run(acting, vec![statement(bindings)]).await? {
        Ok(answers) => {
            let row = answers.first().and_then(|rows| rows.first());
            row.map_or_else(|| Err(Unanswered::NoAnswer(no_row())), |row| Ok(read(row, bindings.len())?))
        }
        Err(Failure::Role) => Err(Unanswered::Role),
        Err(failure) if failure.took_too_long() => Err(Unanswered::NoAnswer(AuthorizerError::Timeout)),
        Err(Failure::Raised(..)) if bindings.len() <= 1 => Ok(vec![BoundValue::Raised; bindings.len()]),
        // One of them raises for these claims: only what it is in is denied.
        Err(Failure::Raised(..)) => {
            let mut values = Vec::new();
            for binding in bindings {
                values.extend(Box::pin(together(actors, acting, std::slice::from_ref(binding))).await?);
            }
            Ok(values)
        }
    }
}

/// Values as their types print them: a cast to text is something else for some. The subquery is not flattened, so that each
/// is evaluated once.
fn statement(bindings: &[Binding]) -> Statement {
    let columns: Vec<String> = (0..bindings.len()).map(|index| plain_text(&format!("b.v{index}"))).collect();
    let values: Vec<String> =
        bindings.iter().enumerate().map(|(index, binding)| format!("({}\n) as v{index}", binding.sql)).collect();
    let sql = format!("select {} from (select {} offset 0) b", columns.join(", "), values.join(", "));
    Statement { sql, params: Vec::new() }
}

/// A value as its type prints it.
pub(crate) fn plain_text(value: &str) -> String {
    format!(
        "case when pg_catalog.num_nulls({value}) operator(pg_catalog.=) 0 then pg_catalog.format('%s', {value}) end"
    )
}

fn read(row: &Row, count: usize) -> Result<Vec<BoundValue>, AuthorizerError> {
    let value = |index| row.try_get(index).map(BoundValue::Value).map_err(|_| no_row());
    (0..count).map(value).collect()
}

fn no_row() -> AuthorizerError {
    AuthorizerError::Unavailable("a statement gave no row".to_owned())
}
