//! Putting questions about a batch to the authorizer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reactor_model::filter::{RowImage, RowValue};
use reactor_model::{Batch, Change, Relation, TenantId};
use reactor_policy_engine::{
    Authorizer, AuthorizerError, CheckRequest, CheckedRow, CheckedValue, Comparison, Principal,
};

use crate::hub::{Answers, Questions, RowPlace, RowQuestions};

/// How often a question is put before it counts as not answered. Each attempt has the authorizer's own deadline; together they
/// bound how far the lane can fall behind.
const ATTEMPTS: u32 = 3;
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// Questions for different principals that are under way at once.
const CONCURRENT_CHECKS: usize = 16;

/// Puts the questions to the authorizer, several times if need be, and records the answers.
///
/// # Errors
/// The last failure when one was not answered; the others' answers are recorded all the same.
pub async fn ask(
    authorizer: &Arc<dyn Authorizer>,
    tenant: &TenantId,
    batch: &Batch,
    questions: Questions,
    answers: &mut Answers,
) -> Result<(), AuthorizerError> {
    let Some(relation) = &batch.relation else { return Ok(()) };
    let Questions { comparisons, rows } = questions;
    let comparing = async {
        let asked: Vec<_> = comparisons.into_iter().collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let comparisons: Vec<Comparison> = asked
            .iter()
            .map(|(condition, value)| Comparison {
                schema: relation.schema.clone(),
                table: relation.table.clone(),
                column: condition.condition.column.clone(),
                operation: condition.condition.operation.clone(),
                value: value.clone(),
            })
            .collect();
        let truths = attempt(asked.len(), || authorizer.compare(tenant.clone(), comparisons.clone())).await?;
        Ok(asked.into_iter().zip(truths).collect())
    };
    let checking = futures::stream::iter(rows)
        .map(|(key, questions)| async move {
            let result = check(authorizer, tenant, batch, relation, &questions).await;
            (key, result)
        })
        .buffer_unordered(CONCURRENT_CHECKS)
        .collect::<Vec<_>>();
    let (compared, checked) = tokio::join!(comparing, checking);
    let mut failure = None;
    match compared {
        Ok(compared) => {
            for ((condition, value), truth) in compared {
                answers.insert(condition, value, truth);
            }
        }
        Err(error) => failure = Some(error),
    }
    for (key, result) in checked {
        match result {
            Ok(visible) => visible.into_iter().for_each(|(place, visible)| answers.insert_row(&key, place, visible)),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Has rows judged for one principal, equal ones once.
async fn check(
    authorizer: &Arc<dyn Authorizer>,
    tenant: &TenantId,
    batch: &Batch,
    relation: &Relation,
    questions: &RowQuestions,
) -> Result<Vec<(RowPlace, bool)>, AuthorizerError> {
    let mut rows: Vec<CheckedRow> = Vec::new();
    let mut numbers: HashMap<CheckedRow, usize> = HashMap::new();
    let mut places = Vec::new();
    for place in &questions.places {
        let Some(row) = batch.changes.get(place.change).and_then(|change| checked_row(change, relation, place.old))
        else {
            continue;
        };
        let number = *numbers.entry(row).or_insert_with_key(|row| {
            rows.push(row.clone());
            rows.len() - 1
        });
        places.push((*place, number));
    }
    let request = CheckRequest {
        tenant: tenant.clone(),
        principal: Principal::clone(&questions.principal),
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        table_oid: relation.table_oid,
        columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
        rows,
    };
    let visible = attempt(request.rows.len(), || authorizer.check_rows(request.clone())).await?;
    Ok(places.into_iter().filter_map(|(place, number)| Some((place, *visible.get(number)?))).collect())
}

fn checked_row(change: &Change, relation: &Relation, old: bool) -> Option<CheckedRow> {
    let identity: Vec<bool> = relation.columns.iter().map(|column| column.identity_key).collect();
    let row = if old { RowImage::before(change, &identity) } else { RowImage::after(change) }?;
    let value = |column| match row.value(column) {
        RowValue::Missing | RowValue::Withheld => CheckedValue::Missing,
        RowValue::Null => CheckedValue::Null,
        RowValue::Text(text) => {
            std::str::from_utf8(text).map_or(CheckedValue::Missing, |text| CheckedValue::Text(text.to_owned()))
        }
    };
    Some(CheckedRow { values: (0..relation.columns.len()).map(value).collect(), must_exist: !old })
}

/// Asks until there are as many answers as questions.
async fn attempt<'a, T>(
    wanted: usize,
    ask: impl Fn() -> futures::future::BoxFuture<'a, Result<Vec<T>, AuthorizerError>>,
) -> Result<Vec<T>, AuthorizerError> {
    let mut attempt = 1;
    loop {
        match ask().await {
            Ok(answers) if answers.len() == wanted => return Ok(answers),
            Ok(_) => return Err(AuthorizerError::Unavailable("it gave another number of answers".to_owned())),
            Err(error) if attempt >= ATTEMPTS => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        attempt += 1;
    }
}
