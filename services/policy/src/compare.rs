//! Comparisons that only Postgres can make, many values at a time.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use reactor_model::filter::{Operation, Truth};
use reactor_pg::{Client, PgError};
use reactor_policy_engine::{AuthorizerError, Comparison};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::access::CatalogAt;
use crate::acting::raised;
use crate::session::Session;
use crate::sql::{ComparedColumn, Operators, ResolvedOperator};

/// Groups in flight at once; on one connection they are answered in order anyway.
const GROUPS_IN_FLIGHT: usize = 16;

/// All comparisons in the order given. One that raises, or whose column is gone, is unknown: its row is not delivered,
/// and the others are. The catalog is read on the connection of decisions, which may wait for the same read.
pub(crate) async fn compare(
    session: &Session,
    catalog: &CatalogAt<'_>,
    operators: &Operators,
    comparisons: &[Comparison],
) -> Result<Vec<Truth>, AuthorizerError> {
    let groups = Group::of(comparisons);
    let asked: Vec<_> = groups.iter().map(|group| group.compare(session, catalog, operators)).collect();
    let answers: Vec<_> = futures::stream::iter(asked).buffered(GROUPS_IN_FLIGHT).try_collect().await?;
    let mut truths = vec![Truth::Unknown; comparisons.len()];
    for (group, answers) in groups.iter().zip(answers) {
        for (place, truth) in group.places.iter().zip(answers) {
            if let Some(slot) = truths.get_mut(*place) {
                *slot = truth;
            }
        }
    }
    Ok(truths)
}

/// Values that are compared in the same way.
struct Group<'a> {
    first: &'a Comparison,
    values: Vec<&'a str>,
    places: Vec<usize>,
}

impl<'a> Group<'a> {
    fn of(comparisons: &'a [Comparison]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut known: BTreeMap<(&str, &str, &str), Vec<usize>> = BTreeMap::new();
        for (place, comparison) in comparisons.iter().enumerate() {
            let same_column = known.entry((&comparison.schema, &comparison.table, &comparison.column)).or_default();
            let same = same_column
                .iter()
                .copied()
                .find(|index| groups.get(*index).is_some_and(|group| group.first.operation == comparison.operation));
            match same.and_then(|index| groups.get_mut(index)) {
                Some(group) => {
                    group.values.push(&comparison.value);
                    group.places.push(place);
                }
                None => {
                    same_column.push(groups.len());
                    groups.push(Self { first: comparison, values: vec![&comparison.value], places: vec![place] });
                }
            }
        }
        groups
    }

    async fn compare(
        &self,
        session: &Session,
        catalog: &CatalogAt<'_>,
        operators: &Operators,
    ) -> Result<Vec<Truth>, AuthorizerError> {
        let Comparison { schema, table, column, operation, .. } = self.first;
        let unknown = || Ok(vec![Truth::Unknown; self.values.len()]);
        let Some(info) = catalog.table(schema, table).await? else {
            return unknown();
        };
        let index = info.relation.column_index(column);
        let Some(column) = index.and_then(|index| ComparedColumn::new(&info, index)) else {
            return unknown();
        };
        session
            .ask(async |client| {
                let resolved = operators.resolve(client, &column, operation.operator).await?;
                Statement { client, column: &column, operation, resolved: &resolved }.run(&self.values).await
            })
            .await
    }
}

struct Statement<'a> {
    client: &'a Client,
    column: &'a ComparedColumn<'a>,
    operation: &'a Operation,
    resolved: &'a ResolvedOperator,
}

impl Statement<'_> {
    /// Halves what raises until the value that does is alone.
    fn run<'b>(&'b self, values: &'b [&'b str]) -> BoxFuture<'b, Result<Vec<Truth>, PgError>> {
        Box::pin(async move {
            match self.run_once(values).await {
                Ok(truths) => Ok(truths),
                Err(error) => match error.as_db_error().map(|db| db.code().clone()) {
                    Some(state) if !raised(&state) => Err(error.into()),
                    None => Err(error.into()),
                    // What took too long as a whole is not tried in parts: that would take longer still.
                    Some(state) if values.len() <= 1 || state == SqlState::QUERY_CANCELED => {
                        Ok(vec![Truth::Unknown; values.len()])
                    }
                    Some(_) => {
                        let (left, right) = values.split_at(values.len() / 2);
                        let (mut left, right) = futures::try_join!(self.run(left), self.run(right))?;
                        left.extend(right);
                        Ok(left)
                    }
                },
            }
        })
    }

    async fn run_once(&self, values: &[&str]) -> Result<Vec<Truth>, tokio_postgres::Error> {
        let (comparison, operands) = self.column.comparison("u.value", self.operation, self.resolved, 2);
        let sql = format!(
            "select array(select {comparison} from pg_catalog.unnest($1) with ordinality u(value, place) order by u.place)"
        );
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&values, Type::TEXT_ARRAY)];
        params.extend(operands.iter().map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone())));
        let rows = self.client.query_typed(&sql, &params).await?;
        let answers: Vec<Option<bool>> = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => Vec::new(),
        };
        Ok(answers.into_iter().map(truth).collect())
    }
}

fn truth(answer: Option<bool>) -> Truth {
    match answer {
        Some(true) => Truth::True,
        Some(false) => Truth::False,
        None => Truth::Unknown,
    }
}
