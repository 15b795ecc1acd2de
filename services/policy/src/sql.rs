//! SQL for one comparison of a column: `left <operator> operand` with the column's type and collation.
//!
//! Nothing of a client gets into the text of a statement: operands and values are parameters, names of types,
//! collations and schemas come quoted from the catalog, operators from a fixed list.

use bytes::BytesMut;
use moka::future::Cache;
use reactor_model::filter::{IsKeyword, Operand, Operation, Operator};
use reactor_model::relation::TypeKind;
use reactor_pg::catalog::RelationInfo;
use reactor_pg::{Client, PgError};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

/// A parameter in text form, read by its type's input function as a literal in a query would be.
#[derive(Debug)]
pub(crate) struct TextParam<'a>(pub(crate) &'a str);

impl ToSql for TextParam<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A column as the left side of comparisons.
#[derive(Clone, Debug)]
pub(crate) struct ComparedColumn<'a> {
    /// Name of the type for a cast: domains looked through, without modifiers.
    pub(crate) cast_type: &'a str,
    /// The collation's quoted name.
    collation: Option<&'a str>,
    /// Oid of the type, domains looked through.
    type_oid: u32,
    /// Whether the type is not one of Postgres's own, so that its operators live in another schema.
    foreign: bool,
}

impl<'a> ComparedColumn<'a> {
    /// `None` when there is no column at this index.
    pub(crate) fn new(info: &'a RelationInfo, index: usize) -> Option<Self> {
        let column = info.relation.columns.get(index)?;
        let (type_oid, base) = info.relation.base_type(column.type_oid)?;
        Some(Self {
            cast_type: info.cast_types.get(index)?,
            collation: info.collations.get(index)?.as_deref(),
            type_oid,
            foreign: base.kind == TypeKind::Extension,
        })
    }

    /// The type for a parameter that is read by the column type's input function.
    pub(crate) fn param_type(&self) -> Type {
        Type::new(self.cast_type.to_owned(), self.type_oid, Kind::Simple, String::new())
    }

    /// `left` (an expression of any type) as a value of the column.
    fn cast(&self, left: &str) -> String {
        let (before, after) = self.around();
        format!("{before}{left}{after}")
    }

    /// What stands before and after an expression of any type to make it a value of the column.
    pub(crate) fn around(&self) -> (String, String) {
        let collate = self.collation.map(|collation| format!(" collate {collation}")).unwrap_or_default();
        ("((".to_owned(), format!(")::{}{collate})", self.cast_type))
    }

    /// The comparison with parameters from `$first` on, and the parameters with their types.
    pub(crate) fn comparison<'v>(
        &self,
        left: &str,
        operation: &'v Operation,
        resolved: &ResolvedOperator,
        first: usize,
    ) -> (String, Vec<(TextParam<'v>, Type)>) {
        let left = self.cast(left);
        let call = |number: usize| format!("{left} {} ${number}", resolved.as_sql());
        let param = |value: &'v str| {
            let kind = if resolved.text_operand { Type::TEXT } else { self.param_type() };
            (TextParam(value), kind)
        };
        match &operation.operand {
            Operand::Keyword(keyword) => (format!("{left} {}", is_keyword(*keyword)), Vec::new()),
            Operand::Text(value) => {
                let call = call(first);
                let sql = if operation.operator == Operator::IsDistinct { format!("not ({call})") } else { call };
                (sql, vec![param(value)])
            }
            Operand::List(values) => {
                let calls: Vec<String> =
                    (first..first + values.len()).map(|number| format!("({})", call(number))).collect();
                let sql = if calls.is_empty() { "false".to_owned() } else { calls.join(" or ") };
                (sql, values.iter().map(|value| param(value)).collect())
            }
        }
    }
}

fn is_keyword(keyword: IsKeyword) -> &'static str {
    match keyword {
        IsKeyword::Null => "is null",
        IsKeyword::True => "is true",
        IsKeyword::False => "is false",
        IsKeyword::Unknown => "is unknown",
    }
}

/// The name of the operator in Postgres that decides, for operators of two values that are not NULL.
fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Eq | Operator::In | Operator::IsDistinct | Operator::Is => "=",
        Operator::Neq => "<>",
        Operator::Lt => "<",
        Operator::Lte => "<=",
        Operator::Gt => ">",
        Operator::Gte => ">=",
        Operator::Like => "~~",
        Operator::Ilike => "~~*",
        Operator::Match => "~",
        Operator::Imatch => "~*",
    }
}

/// Whether the operand is a pattern rather than a value of the column's type.
pub(crate) fn is_pattern(operator: Operator) -> bool {
    match operator {
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => true,
        Operator::Eq
        | Operator::Neq
        | Operator::Lt
        | Operator::Lte
        | Operator::Gt
        | Operator::Gte
        | Operator::In
        | Operator::Is
        | Operator::IsDistinct => false,
    }
}

/// Where an operator is found for a type.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedOperator {
    schema: String,
    name: &'static str,
    text_operand: bool,
}

/// Operators of types that are not Postgres's own, which live in whatever schema their extension was put.
#[derive(Debug)]
pub(crate) struct Operators(Cache<(u32, Operator), ResolvedOperator>);

/// Extension types times operators that are in use.
const OPERATORS: u64 = 1_000;

/// Operators move only when an extension is made anew.
const OPERATOR_LIFETIME: std::time::Duration = std::time::Duration::from_secs(60);

const FIND_OPERATOR: &str = "
select pg_catalog.quote_ident(n.nspname), o.oprright = 'pg_catalog.text'::pg_catalog.regtype
  from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
 where o.oprname = $2 and o.oprleft = $1 and o.oprright in ($1, 'pg_catalog.text'::pg_catalog.regtype)
 order by (o.oprright = $1) <> $3 desc
 limit 1";

impl ResolvedOperator {
    /// As it stands between its operands.
    pub(crate) fn as_sql(&self) -> String {
        format!("operator({}.{})", self.schema, self.name)
    }
}

impl Operators {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(OPERATORS).time_to_live(OPERATOR_LIFETIME).build())
    }

    /// The operator for the column; that of Postgres where the type has none of its own.
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        column: &ComparedColumn<'_>,
        operator: Operator,
    ) -> Result<ResolvedOperator, PgError> {
        let name = symbol(operator);
        let pattern = is_pattern(operator);
        let own = ResolvedOperator { schema: "pg_catalog".to_owned(), name, text_operand: pattern };
        if !column.foreign {
            return Ok(own);
        }
        let key = (column.type_oid, operator);
        if let Some(known) = self.0.get(&key).await {
            return Ok(known);
        }
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&column.type_oid, Type::OID), (&name, Type::TEXT), (&pattern, Type::BOOL)];
        let found = client.query_typed(FIND_OPERATOR, &params).await?;
        let resolved = match found.first() {
            Some(row) => ResolvedOperator { schema: row.try_get(0)?, name, text_operand: row.try_get(1)? },
            None => own,
        };
        self.0.insert(key, resolved.clone()).await;
        Ok(resolved)
    }
}
