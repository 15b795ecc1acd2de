//! The decision on a subscription, from what the catalog said.

use std::collections::BTreeSet;

use reactor_model::Code;
use reactor_model::filter::Condition;
use reactor_pg::catalog::{Publication, RelationInfo, RelationKind};
use reactor_policy_engine::{AuthorizeRequest, ColumnMask, Denial};

use crate::access::{DatabaseGrant, TableAccess};
use crate::names::ident;
use crate::rules::Rules;

/// What a role may read of a table, and by which rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) rule: String,
    pub(crate) columns: ColumnMask,
}

pub(crate) fn deny(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Denial {
    Denial { code, message: message.into(), hint: hint.into() }
}

/// Nobody may subscribe to a table that is not there.
pub(crate) fn no_table(request: &AuthorizeRequest) -> Denial {
    deny(Code::TableUnknown, format!("there is no table {}", name(request)), "check schema and name of the table")
}

/// Whether the relation has changes at all that can be delivered.
pub(crate) fn check_published(
    request: &AuthorizeRequest,
    info: &RelationInfo,
    publication: &str,
) -> Result<(), Denial> {
    let (name, publication) = (name(request), ident(publication));
    match &info.kind {
        RelationKind::Table | RelationKind::Partitioned => {}
        RelationKind::Partition { root_schema, root_table } => {
            let root = format!("{}.{}", ident(root_schema), ident(root_table));
            let message = format!("{name} is a partition: its changes appear under {root}");
            return Err(deny(Code::TableUnknown, message, format!("subscribe to {root}")));
        }
        RelationKind::Other(what) => {
            let hint = "subscribe to a table: nothing else has changes in the log";
            return Err(deny(Code::TableUnknown, format!("{name} is {what}"), hint));
        }
    }
    match &info.publication {
        Publication::With(_) => Ok(()),
        Publication::Without => Err(deny(
            Code::TableUnknown,
            format!("table {name} is not in the publication {publication}"),
            format!("ALTER PUBLICATION {publication} ADD TABLE {name}"),
        )),
        Publication::Missing => Err(deny(
            Code::TableUnknown,
            format!("there is no publication {publication}"),
            format!("CREATE PUBLICATION {publication} FOR TABLE {name}"),
        )),
    }
}

/// By which rule the principal may read, and which columns.
pub(crate) fn permission(
    request: &AuthorizeRequest,
    access: &TableAccess,
    default_schema: &str,
    rules: &Rules,
) -> Result<Permission, Denial> {
    match &access.grant {
        DatabaseGrant::Table => return Ok(Permission { rule: "grant:select".into(), columns: ColumnMask::All }),
        DatabaseGrant::Columns(columns) => {
            // A permission in the token is for the whole table, so it is looked at before grants on some columns.
            return Ok(by_claim(request, default_schema).unwrap_or_else(|| Permission {
                rule: "grant:columns".into(),
                columns: ColumnMask::Only(columns.clone()),
            }));
        }
        DatabaseGrant::NoRole | DatabaseGrant::NoSchema | DatabaseGrant::Nothing => {}
    }
    let permitted = by_claim(request, default_schema).or_else(|| by_rule(rules));
    permitted.ok_or_else(|| no_permission(request, &access.grant))
}

fn by_rule(rules: &Rules) -> Option<Permission> {
    Some(Permission { rule: format!("rule:{}", rules.first?), columns: ColumnMask::All })
}

/// The policies of the table can only be asked about as the role.
pub(crate) fn may_not_act(request: &AuthorizeRequest, user: &str) -> Denial {
    let (name, role, user) = (name(request), ident(&request.principal.role), ident(user));
    let message = format!("the policies of {name} cannot be evaluated: the database user {user} may not act as {role}");
    deny(Code::RoleUnusable, message, format!("GRANT {role} TO {user}"))
}

/// What reads other tables reads them as a role, and there is none.
pub(crate) fn needs_role(request: &AuthorizeRequest) -> Denial {
    let (name, role) = (name(request), ident(&request.principal.role));
    let message = format!("the policies of {name} need a role of the database, and {role} does not exist");
    deny(Code::RoleUnusable, message, format!("CREATE ROLE {role} NOLOGIN, or use a role of the database"))
}

/// A condition that Postgres does not accept at all.
pub(crate) fn broken_rule(request: &AuthorizeRequest, said: &str) -> Denial {
    let message = format!("a rule for {} is not a condition over its columns: {said}", name(request));
    deny(Code::PolicyInvalid, message, Code::PolicyInvalid.remedy())
}

fn by_claim(request: &AuthorizeRequest, default_schema: &str) -> Option<Permission> {
    let AuthorizeRequest { schema, table, .. } = request;
    let mut names = vec![format!("{schema}.{table}"), "*".to_owned()];
    if schema == default_schema {
        names.push(table.clone());
    }
    let permissions = names.into_iter().map(|name| format!("data:{name}:read"));
    let found = permissions.into_iter().find(|permission| request.principal.permissions.contains(permission))?;
    Some(Permission { rule: format!("permission:{found}"), columns: ColumnMask::All })
}

fn no_permission(request: &AuthorizeRequest, grant: &DatabaseGrant) -> Denial {
    let (name, role, schema) = (name(request), ident(&request.principal.role), ident(&request.schema));
    let claim = format!("data:{}.{}:read", request.schema, request.table);
    let or_claim = format!("or put {claim} in the token's permissions");
    let (message, hint) = match grant {
        DatabaseGrant::NoRole => (
            format!("the token's role {role} does not exist in the database"),
            format!("use a role of the database, {or_claim}"),
        ),
        DatabaseGrant::NoSchema => (
            format!("the role {role} may not use the schema {schema}"),
            format!("GRANT USAGE ON SCHEMA {schema} TO {role}, {or_claim}"),
        ),
        DatabaseGrant::Nothing | DatabaseGrant::Table | DatabaseGrant::Columns(_) => {
            (format!("the role {role} may not read {name}"), format!("GRANT SELECT ON {name} TO {role}, {or_claim}"))
        }
    };
    deny(Code::PermissionDenied, message, hint)
}

/// Columns asked for must be there, published and allowed.
pub(crate) fn check_select(
    request: &AuthorizeRequest,
    info: &RelationInfo,
    columns: &ColumnMask,
) -> Result<(), Denial> {
    for column in &request.select {
        if info.relation.column_index(column).is_none() {
            let message = format!("unknown column `{column}` in select: {} has no such column", name(request));
            return Err(deny(Code::BadRequest, message, columns_hint(info, columns)));
        }
        check_allowed(request, columns, column, "select")?;
        if !is_published(info, column) {
            let message = format!("column `{column}` in select is not in the publication");
            return Err(deny(Code::BadRequest, message, columns_hint(info, columns)));
        }
    }
    Ok(())
}

/// The filter's column must be there, allowed (a filter on a hidden column would tell what is in it) and published.
pub(crate) fn check_filter_column(
    request: &AuthorizeRequest,
    info: &RelationInfo,
    columns: &ColumnMask,
    condition: &Condition,
) -> Result<usize, Denial> {
    let column = &condition.column;
    let Some(index) = info.relation.column_index(column) else {
        let message = format!("unknown column `{column}` in the filter: {} has no such column", name(request));
        return Err(deny(Code::BadFilter, message, columns_hint(info, columns)));
    };
    check_allowed(request, columns, column, "the filter")?;
    if !is_published(info, column) {
        let message = format!("column `{column}` in the filter is not in the publication");
        return Err(deny(Code::BadFilter, message, columns_hint(info, columns)));
    }
    Ok(index)
}

fn check_allowed(request: &AuthorizeRequest, columns: &ColumnMask, column: &str, place: &str) -> Result<(), Denial> {
    let ColumnMask::Only(allowed) = columns else {
        return Ok(());
    };
    if allowed.contains(column) {
        return Ok(());
    }
    let (name, role) = (name(request), ident(&request.principal.role));
    let message = format!("the role {role} may not read column `{column}` of {name} in {place}");
    let hint = format!("GRANT SELECT ({}) ON {name} TO {role}", ident(column));
    Err(deny(Code::PermissionDenied, message, hint))
}

fn is_published(info: &RelationInfo, column: &str) -> bool {
    match &info.publication {
        Publication::With(columns) => columns.contains(column),
        Publication::Without | Publication::Missing => false,
    }
}

fn columns_hint(info: &RelationInfo, columns: &ColumnMask) -> String {
    let readable = |name: &&str| match columns {
        ColumnMask::All => true,
        ColumnMask::Only(only) => only.contains(*name),
    };
    let names: BTreeSet<&str> = info.relation.columns.iter().map(|column| column.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| is_published(info, name)).filter(readable).collect();
    format!("columns are {}", names.join(", "))
}

fn name(request: &AuthorizeRequest) -> String {
    format!("{}.{}", ident(&request.schema), ident(&request.table))
}
