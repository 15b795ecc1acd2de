//! Subqueries over one table as sets of keys.

use std::collections::BTreeSet;

use reactor_model::filter::Truth;
use reactor_model::relation::{Relation, ReplicaIdentity};

use super::SetTemplate;
use super::compare::{Typed, is_decidable, unify};
use super::compiler::{Compiler, constant};
use super::fixed::{PLANNED, flatten};
use super::knowledge::TableInfo;
use super::predicate::transparent;
use super::print::SET_ALIAS;
use super::scalar::as_assigned;
use super::scope::{Names, Scope, Table};
use super::settled::{columns, is_settled};
use super::types::{self, TEXT, VARCHAR};
use crate::program::{Comparator, MemberMode, MemberSet, Predicate, Scalar};
use crate::sql::{Expr, FromItem, Query, quote_identifier};

/// A row is looked up by few columns; more are left to Postgres.
const MAX_KEYS: usize = 8;

/// What is looked up, where it stands, and the type that the query's column is converted to (0: none).
pub(super) type Probe<'a> = (&'a Expr, &'a Scope<'a>, u32);

/// What the conditions of a subquery come to.
#[derive(Default)]
struct Parts {
    /// Over the set's rows.
    condition: Vec<Predicate>,
    /// The same as SQL.
    sql: Vec<String>,
    /// Over the row that is judged.
    outside: Vec<Predicate>,
    keys: Vec<String>,
    values: Vec<Scalar>,
}

impl Compiler<'_> {
    /// `EXISTS (query)`
    pub(super) fn exists(&mut self, query: &Query, scope: &Scope<'_>) -> Option<Predicate> {
        let plain = |expr: &Expr| {
            matches!(expr, Expr::Star(_) | Expr::Number(_) | Expr::Null | Expr::Bool(_) | Expr::Text(_) | Expr::Name(_))
        };
        let has_rows = match &query.limit {
            None => true,
            Some(Expr::Number(number)) => number.parse::<u32>().is_ok_and(|limit| limit > 0),
            Some(_) => false,
        };
        let all_plain = query.items.iter().all(|item| plain(&item.expr));
        (all_plain && has_rows).then(|| self.member(None, query, scope, true))?
    }

    /// `operand IN (query)`
    pub(super) fn in_query(
        &mut self,
        operand: &Expr,
        query: &Query,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        if query.limit.is_some() {
            return None;
        }
        if transparent(query).is_some() {
            return self
                .in_function_query(operand, query, scope, positive)
                .or_else(|| self.in_claims_query(operand, query, scope));
        }
        if query.from.iter().all(|item| matches!(item, FromItem::Function { .. })) {
            return self.in_claims_query(operand, query, scope);
        }
        self.member(Some((operand, scope, 0)), query, scope, positive)
    }

    /// `operand IN (query)` of a query that depends on claims alone: `operand = ANY (ARRAY(query))`.
    fn in_claims_query(&mut self, operand: &Expr, query: &Query, scope: &Scope<'_>) -> Option<Predicate> {
        let facts = self.query_facts(query, scope);
        if facts.row || facts.set || !facts.claims {
            return None;
        }
        let left = self.scalar(operand, scope, None)?;
        let array = self.array_of_query(query, scope)?;
        self.over_array(Comparator::Eq, left, array, false, scope)
    }

    /// A query over one table, within `scope`.
    pub(super) fn member(
        &mut self,
        probe: Option<Probe<'_>>,
        query: &Query,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        if self.in_set || self.by_settings {
            return None;
        }
        self.in_set = true;
        let member = self.enter(|compiler| compiler.member_here(probe, query, scope, positive));
        self.in_set = false;
        member
    }

    fn member_here(
        &mut self,
        probe: Option<Probe<'_>>,
        query: &Query,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let [FromItem::Table { name, alias }] = query.from.as_slice() else { return None };
        let table = self.table(name, scope)?;
        let is_policys_own = scope.call().is_none();
        self.refused |= table.readable.is_empty() && is_policys_own;
        // A partition's changes carry the names of its root.
        let is_partition = table.relation.oid != table.relation.table_oid || name.last() != Some(&table.relation.table);
        let may_name = table.usable || (*scope.names == Names::Catalog && !table.relation.row_security);
        if !table.published || !may_name || is_partition || table.relation.table_oid == self.source.relation.table_oid {
            return None;
        }
        let alias = alias.as_deref().unwrap_or(&table.relation.table);
        let inner = scope.inner(Table::Set { table, alias });
        let mut parts = Parts::default();
        let mut conjuncts = Vec::new();
        flatten(query.filter.as_slice(), true, &mut conjuncts);
        for conjunct in conjuncts {
            self.conjunct(conjunct, &inner, &mut parts)?;
        }
        let mut mode = MemberMode::Exists;
        if let Some(probe) = probe {
            let [item] = query.items.as_slice() else { return None };
            mode = self.probe(probe, &item.expr, &inner, positive, &mut parts)?;
        }
        if parts.keys.len() > MAX_KEYS || !parts.condition.iter().all(is_settled) {
            return None;
        }
        let identity = identity(&table.relation)?;
        let mut used: BTreeSet<&str> = parts.keys.iter().map(String::as_str).collect();
        parts.condition.iter().for_each(|predicate| columns(predicate, &mut used));
        let is_readable = |column: &str| table.readable.contains(column);
        if !used.into_iter().all(is_readable) {
            self.refused |= is_policys_own;
            return None;
        }
        if !identity.iter().all(|column| is_readable(column)) {
            return None;
        }
        let mut condition = parts.condition;
        condition.extend(self.own_policies(table, scope.reader)?);
        let sql = set_sql(&table.relation, &identity, &parts.keys, &parts.sql);
        let reader = scope.reader.map(str::to_owned);
        let set = MemberSet {
            id: format!("{:016x}", hash(&[&sql, reader.as_deref().unwrap_or("")])),
            schema: table.relation.schema.clone(),
            table: table.relation.table.clone(),
            table_oid: table.relation.table_oid,
            keys: parts.keys,
            identity,
            condition: PLANNED.fold(Predicate::And(condition)),
        };
        let set = self.set(SetTemplate { set, sql, reader })?;
        let mut all = parts.outside;
        all.push(Predicate::Member { set, values: parts.values, mode });
        Some(PLANNED.fold(Predicate::And(all)))
    }

    /// One condition of a subquery.
    fn conjunct(&mut self, expr: &Expr, scope: &Scope<'_>, parts: &mut Parts) -> Option<()> {
        let facts = self.facts(expr, scope);
        if !facts.claims || facts.returns_set {
            return None;
        }
        if !facts.row {
            let predicate = self.predicate(expr, scope, true);
            parts.sql.push(self.print(expr, scope)?);
            parts.condition.push(predicate);
            return Some(());
        }
        if !facts.set {
            let operand = Box::new(self.predicate(expr, scope, true));
            parts.outside.push(Predicate::Is { operand, value: Truth::True, negated: false });
            return Some(());
        }
        let Expr::Binary { operator, left, right } = expr else { return None };
        let (key, value) = match (self.facts(left, scope), self.facts(right, scope)) {
            (left_facts, right_facts) if !left_facts.row && !right_facts.set => (left, right),
            (left_facts, right_facts) if !left_facts.set && !right_facts.row => (right, left),
            _ => return None,
        };
        if operator != "=" {
            return None;
        }
        let (key, value) = (self.scalar(key, scope, None)?, self.scalar(value, scope, None)?);
        let (key, value) = as_key(key, value)?;
        parts.keys.push(key);
        parts.values.push(value);
        Some(())
    }

    /// The column that `IN` looks up. Returns how NULLs count.
    fn probe(
        &mut self,
        (operand, outer, converted): Probe<'_>,
        item: &Expr,
        scope: &Scope<'_>,
        positive: bool,
        parts: &mut Parts,
    ) -> Option<MemberMode> {
        let facts = self.facts(operand, outer);
        let mut key = self.scalar(item, scope, None)?;
        if converted != 0 {
            key = as_assigned(key, converted)?;
        }
        let value = self.scalar(operand, outer, None)?;
        if positive && facts.can_be_bound() {
            let column = self.print(item, scope)?;
            let operand = self.print(operand, outer)?;
            let (left, right) = unify(key, value)?;
            if !is_decidable(Comparator::Eq, &left, &right) {
                return None;
            }
            parts.sql.push(format!("({column}) = ({operand})"));
            let (left, right) = (left.scalar, right.scalar);
            parts.condition.push(Predicate::Compare { operator: Comparator::Eq, left, right });
            return Some(MemberMode::Exists);
        }
        // With other keys, a NULL among those would count as one of this.
        if !positive && (!parts.keys.is_empty() || !parts.outside.is_empty()) {
            return None;
        }
        let (key, value) = as_key(key, value)?;
        parts.keys.push(key);
        parts.values.push(value);
        Some(if positive { MemberMode::Exists } else { MemberMode::In })
    }

    /// The row policies of the set's table itself, for those whose rights count.
    fn own_policies(&mut self, table: &TableInfo, reader: Option<&str>) -> Option<Vec<Predicate>> {
        let Some(policies) = &table.policies else { return Some(Vec::new()) };
        let alias = &table.relation.table;
        let scope =
            Scope { table: Some(Table::Set { table, alias }), outer: None, names: &Names::Catalog, call: None, reader };
        let mut compiled = |text: &String| {
            let expr = crate::sql::parse_expression(text).ok()?;
            let predicate = self.predicate(&expr, &scope, true);
            is_settled(&predicate).then_some(predicate)
        };
        let permissive = policies.permissive.iter().map(&mut compiled).collect::<Option<Vec<_>>>()?;
        let restrictive = policies.restrictive.iter().map(&mut compiled).collect::<Option<Vec<_>>>()?;
        let mut all = vec![if permissive.is_empty() { constant(false) } else { Predicate::Or(permissive) }];
        all.extend(restrictive);
        Some(all)
    }
}

/// A column of the set and the value that it is looked up by, when they are equal exactly when their texts are.
fn as_key(key: Typed, value: Typed) -> Option<(String, Scalar)> {
    let (key, value) = unify(key, value)?;
    let equal_texts = types::has_equal_texts(key.oid) || key.is_enum;
    if !equal_texts || !is_decidable(Comparator::Eq, &key, &value) {
        return None;
    }
    match key.scalar {
        Scalar::Column { name, .. } => Some((name, value.scalar)),
        Scalar::Cast { operand, type_oid: TEXT } => match *operand {
            Scalar::Column { name, type_oid: VARCHAR } => Some((name, value.scalar)),
            _ => None,
        },
        _ => None,
    }
}

/// The columns that identify a row in an old image.
fn identity(relation: &Relation) -> Option<Vec<String>> {
    let columns = relation.columns.iter();
    let names: Vec<String> = match relation.identity {
        ReplicaIdentity::Default => columns.filter(|c| c.primary_key).map(|c| c.name.clone()).collect(),
        ReplicaIdentity::Index => columns.filter(|c| c.identity_key).map(|c| c.name.clone()).collect(),
        ReplicaIdentity::Full => columns.map(|c| c.name.clone()).collect(),
        ReplicaIdentity::Nothing => Vec::new(),
    };
    (!names.is_empty()).then_some(names)
}

fn set_sql(relation: &Relation, identity: &[String], keys: &[String], conditions: &[String]) -> String {
    let columns: Vec<String> =
        identity.iter().chain(keys).map(|name| format!("{SET_ALIAS}.{}", quote_identifier(name))).collect();
    let mut sql = format!(
        "select {} from {}.{} as {SET_ALIAS}",
        columns.join(", "),
        quote_identifier(&relation.schema),
        quote_identifier(&relation.table),
    );
    for (index, condition) in conditions.iter().enumerate() {
        sql.push_str(if index == 0 { " where (" } else { " and (" });
        sql.push_str(condition);
        sql.push(')');
    }
    sql
}

/// FNV-1a: the same in every process and version.
fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
