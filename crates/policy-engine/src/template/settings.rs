//! Settings of the session by themselves: who knows them need not ask Postgres for what policies make of them.

use std::collections::BTreeMap;

use super::compare::Typed;
use super::compiler::{Compiler, Function};
use super::scope::Scope;
use super::types::{JSONB, TEXT};
use super::{Binding, BoundValue};
use crate::eval::printed;
use crate::program::Scalar;
use crate::sql::{Expr, TypeName};

/// A setting as an expression reads it: `current_setting(name, …)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Its name, in lower case.
    pub name: String,
    /// Whether it stands within `nullif(…, '')`, with the second argument that makes one that is not set NULL.
    pub empty_is_null: bool,
    /// Whether it is cast to `jsonb`.
    pub json: bool,
}

impl Setting {
    /// What it reads where these settings are set, by their names in lower case; `None` when that cannot be told.
    #[must_use]
    pub fn read(&self, settings: &BTreeMap<String, String>) -> Option<BoundValue> {
        let text = settings.get(&self.name)?;
        if text.is_empty() && self.empty_is_null {
            return Some(BoundValue::Value(None));
        }
        let value = if self.json { printed(text)? } else { text.clone() };
        Some(BoundValue::Value(Some(value)))
    }
}

impl Compiler<'_> {
    /// The name of the setting that a call reads; `None` when it reads none, or none of a session's own that is named.
    pub(super) fn setting_name<'e>(
        &mut self,
        name: &[String],
        arguments: &'e [Expr],
        scope: &Scope<'_>,
    ) -> Option<&'e str> {
        let function = self.function(name, arguments.len(), scope.names);
        if !matches!(function, Function::Catalog { .. }) || !reads_setting(name) {
            return None;
        }
        match arguments {
            // Those of Postgres itself may be others within a function.
            [setting] | [setting, Expr::Bool(_)] => literal(setting).filter(|name| name.contains('.')),
            _ => None,
        }
    }

    /// A setting, or NULL for an empty one.
    pub(super) fn setting(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        let setting = self.setting_of(expr, scope)?;
        self.bound_setting(setting, TEXT)
    }

    /// A setting as `jsonb`, or the first of some that is not NULL. That casts each of them, so that more may raise.
    pub(super) fn json_setting(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        if let Expr::Special { name, arguments } = uncast(expr)
            && name == "coalesce"
        {
            let parts = arguments.iter().map(|part| Some(self.json_setting(part, scope)?.scalar));
            return Some(Typed::new(Scalar::Coalesce(parts.collect::<Option<_>>()?), JSONB));
        }
        let setting = self.setting_of(expr, scope)?;
        self.bound_setting(Setting { json: true, ..setting }, JSONB)
    }

    fn setting_of(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<Setting> {
        let (call, empty_is_null) = match uncast(expr) {
            Expr::Special { name, arguments } if name == "nullif" => match arguments.as_slice() {
                [call, empty] if literal(empty) == Some("") => (uncast(call), true),
                _ => return None,
            },
            call => (call, false),
        };
        let Expr::Call { name, arguments } = call else { return None };
        let may_be_missing = matches!(arguments.as_slice(), [_, Expr::Bool(true)]);
        let setting = self.setting_name(name, arguments, scope)?;
        (may_be_missing || !empty_is_null).then(|| Setting {
            name: setting.to_ascii_lowercase(),
            empty_is_null,
            json: false,
        })
    }

    fn bound_setting(&mut self, setting: Setting, type_oid: u32) -> Option<Typed> {
        let binding = Binding { sql: String::new(), type_oid, setting: Some(setting) };
        Some(Typed::new(self.bind(binding)?, type_oid))
    }
}

/// Whether the name is that of the function that reads a setting.
pub(super) fn reads_setting(name: &[String]) -> bool {
    name.last().is_some_and(|name| name == "current_setting")
}

fn literal(expr: &Expr) -> Option<&str> {
    match uncast(expr) {
        Expr::Text(text) => Some(text),
        _ => None,
    }
}

/// The expression without casts to `text`, which it has as it is.
fn uncast(mut expr: &Expr) -> &Expr {
    while let Expr::Cast { operand, to } = expr
        && is_text(to)
    {
        expr = operand;
    }
    expr
}

fn is_text(name: &TypeName) -> bool {
    name.builtin && name.name == "text" && !name.array && name.modifiers.is_empty()
}
