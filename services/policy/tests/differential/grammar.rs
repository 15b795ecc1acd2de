//! Random policies: all that is compiled, and some that is not.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::world::{Kind, Table, literal};

pub(crate) struct Grammar<'a> {
    pub(crate) rng: &'a mut StdRng,
    pub(crate) table: &'a Table,
}

type Column = (String, &'static Kind);

impl Grammar<'_> {
    fn pick(&mut self, choices: &[&str]) -> String {
        (*choices.choose(self.rng).unwrap()).to_owned()
    }

    fn any_column(&mut self) -> Column {
        let (name, kind) = self.table.columns.choose(self.rng).unwrap();
        let qualified = self.rng.random_bool(0.2);
        (if qualified { format!("{}.{name}", self.table.name) } else { name.clone() }, kind)
    }

    /// A column of one of these types, if the table has one.
    fn column(&mut self, types: &[&str]) -> Option<Column> {
        let fit: Vec<&Column> = self.table.columns.iter().filter(|(_, kind)| types.contains(&kind.cast)).collect();
        fit.choose(self.rng).map(|column| (*column).clone())
    }

    fn literal(&mut self, kind: &Kind) -> String {
        if self.rng.random_bool(0.03) {
            return format!("null::{}", kind.cast);
        }
        literal(self.rng, kind, kind.cast)
    }

    fn list(&mut self, kind: &Kind) -> String {
        let count = self.rng.random_range(1..4);
        let items: Vec<String> = (0..count).map(|_| self.literal(kind)).collect();
        items.join(", ")
    }

    /// A condition; deeper ones combine others.
    pub(crate) fn condition(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.atom();
        }
        let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.rng.random_range(0..8) {
            0 | 1 => format!("({left}) and ({right})"),
            2 | 3 => format!("({left}) or ({right})"),
            4 => format!("not ({left})"),
            5 => {
                let test = self.pick(&["true", "false", "unknown", "not true", "not false", "not unknown"]);
                format!("({left}) is {test}")
            }
            6 => format!("coalesce(({left}), ({right}))"),
            _ => left,
        }
    }

    fn atom(&mut self) -> String {
        // What the table lacks the columns for is drawn again.
        loop {
            let drawn = match self.rng.random_range(0..10) {
                0..=2 => self.comparison(),
                3 => self.text_condition(),
                4 => self.json_condition(),
                5 | 6 => self.claims_condition(),
                7 => self.membership(),
                8 => self.conversion(),
                _ => self.foreign(),
            };
            if let Some(condition) = drawn {
                return condition;
            }
        }
    }

    fn comparison(&mut self) -> Option<String> {
        let (column, kind) = self.any_column();
        let value = self.literal(kind);
        let operator = self.pick(&["=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]);
        let ordered = kind.cast != "json";
        Some(match self.rng.random_range(0..9) {
            0 => format!("{column} is null"),
            1 => format!("{column} is not null"),
            _ if !ordered => return None,
            2 => format!("{column} in ({})", self.list(kind)),
            3 => format!("{column} not in ({})", self.list(kind)),
            4 if !kind.cast.ends_with("[]") => {
                let (operator, which) = (self.pick(&["=", "<>", "<", ">="]), self.pick(&["any", "all"]));
                format!("{column} {operator} {which} (array[{}])", self.list(kind))
            }
            5 => format!("{column} between {value} and {}", self.literal(kind)),
            6 => format!("coalesce({column}, {}) {operator} {value}", self.literal(kind)),
            7 if kind.cast == "bool" => column,
            _ => format!("{column} {operator} {value}"),
        })
    }

    fn text_condition(&mut self) -> Option<String> {
        let (column, kind) = self.column(&["text", "varchar"])?;
        let pattern = self.pick(&["a%", "%b", "_", "%", "a\\%b", "%ß%", "A_", ""]);
        let value = self.literal(kind);
        Some(match self.rng.random_range(0..8) {
            0 => format!("{column} like '{pattern}'"),
            1 => format!("{column} not like '{pattern}'"),
            2 => format!("{column} ilike '{pattern}'"),
            3 => format!("lower({column}) = {value}"),
            4 => format!("upper({column}) <> {value}"),
            5 => format!("{column} || 'b' = {value}"),
            6 => format!("lower({column} || coalesce({column}, 'x')) like '{pattern}'"),
            _ => format!("same({column}, {value})"),
        })
    }

    fn json_condition(&mut self) -> Option<String> {
        let (column, _) = self.column(&["jsonb"])?;
        let forms = [
            "{c} ->> 'a' = 'x'",
            "({c} -> 'a') ->> 'b' = 'x'",
            "{c} #>> '{a,b}' = 'x'",
            "{c} -> 'a' = '1'::jsonb",
            "{c} ->> 1 = 'a'",
            "({c} ->> 'n')::int4 > 3",
            "({c} ->> 'a')::int4 = 1",
            "({c} ->> 'a')::numeric < 2.5",
            "{c} -> 'a' is null",
            "{c} = '{\"a\": 1.0}'::jsonb",
            "{c} #> '{a}' is not distinct from '\"x\"'::jsonb",
            "{c} ? 'a'",
            "{c} @> '{\"a\": 1}'::jsonb",
            "({c} -> 'a')::text = '1'",
            "{c} ->> 'a' = auth.jwt() ->> 'org'",
        ];
        Some(self.pick(&forms).replace("{c}", &column))
    }

    fn claims_condition(&mut self) -> Option<String> {
        let forms: &[(&str, &[&str])] = &[
            ("{c} = auth.uid()", &["uuid"]),
            ("{c} = (select auth.uid())", &["uuid"]),
            ("(select auth.uid()) <> {c}", &["uuid"]),
            ("is_mine({c})", &["uuid"]),
            ("{c}::text = current_setting('request.jwt.claims', true)::json ->> 'sub'", &["uuid"]),
            ("{c} = (auth.jwt() ->> 'sub')::uuid", &["uuid"]),
            ("{c} = any (array(select jsonb_array_elements_text(auth.jwt() -> 'app' -> 'ids')::uuid))", &["uuid"]),
            ("auth.uid() = any ({c})", &["uuid[]"]),
            ("{c} = (auth.jwt() ->> 'org')", &["text", "varchar"]),
            ("{c} = any (array(select jsonb_array_elements_text(auth.jwt() -> 'teams')))", &["text"]),
            ("{c} in (select jsonb_array_elements_text(auth.jwt() -> 'teams'))", &["text"]),
            ("{c} <= (auth.jwt() ->> 'level')::int4", &["int4"]),
            ("{c} = any (array(select jsonb_array_elements_text(auth.jwt() -> 'rooms')::int4))", &["int4"]),
            ("(auth.jwt() ->> 'org') = any ({c})", &["text[]"]),
            ("{c} = current_user", &["text"]),
            ("auth.role() = 'nobody' or {c} is not null", &["int4", "text"]),
            ("coalesce((auth.jwt() ->> 'level')::int4, 0) >= {c}", &["int4"]),
            ("{c} = coalesce(auth.jwt() -> 'app' ->> 'tag', 'ab')", &["text", "varchar"]),
        ];
        let (form, types) = forms.choose(self.rng).unwrap();
        let (column, _) = self.column(types)?;
        Some(form.replace("{c}", &column))
    }

    fn membership(&mut self) -> Option<String> {
        let table = self.pick(&["members", "members", "guarded", "secrets"]);
        let forms: &[(&str, &[&str])] = &[
            ("exists (select 1 from {m} m where m.room = {t}.{c} and m.owner = auth.uid())", &["int4"]),
            ("not exists (select 1 from {m} m where m.room = {t}.{c} and m.owner = (select auth.uid()))", &["int4"]),
            ("{c} in (select m.room from {m} m where m.owner = auth.uid() and not m.id = 5)", &["int4"]),
            ("{c} not in (select room from {m} where owner = auth.uid())", &["int4"]),
            ("{c} in (select tag from {m} where tag <> 'x' or room > 1)", &["text"]),
            ("{c} = any (select m.owner from {m} m)", &["uuid"]),
            ("exists (select from {m} m where m.owner = auth.uid() and m.tag like 'a%')", &["int4"]),
            ("exists (select 1 from {m} m where m.room = {t}.{c} and m.tag = auth.jwt() ->> 'org')", &["int4"]),
            ("exists (select 1 from {m} m where m.room = {t}.{c} and m.id < {t}.{c})", &["int4"]),
            ("exists (select 1 from {m} m join members n on n.id = m.id where m.room = {t}.{c})", &["int4"]),
            ("{c} = (select max(m.room) from {m} m where m.owner = auth.uid())", &["int4"]),
            ("in_room({c})", &["int4"]),
            ("in_guarded({c})", &["int4"]),
        ];
        let (form, types) = forms.choose(self.rng).unwrap();
        let (column, _) = self.column(types)?;
        let column = column.rsplit('.').next().unwrap_or_default().to_owned();
        Some(form.replace("{m}", &table).replace("{t}", &self.table.name).replace("{c}", &column))
    }

    /// Casts, of which some raise for some rows.
    fn conversion(&mut self) -> Option<String> {
        let forms: &[(&str, &[&str])] = &[
            (
                "{c}::text = '1'",
                &["int4", "int2", "int8", "numeric", "bool", "uuid", "text", "varchar", "date", "mood"],
            ),
            ("{c}::text like '%0%'", &["int4", "numeric", "uuid", "float8", "timestamp", "interval", "jsonb", "bytea"]),
            ("{c}::int4 = 1", &["text", "varchar", "int8", "numeric", "float8", "bool"]),
            ("{c}::int8 > 0", &["int4", "int2", "text"]),
            ("{c}::numeric >= 1", &["int4", "int8", "float8", "text"]),
            ("{c}::date = '2024-01-01'", &["timestamp", "timestamptz"]),
            ("{c}::timestamptz > '2024-01-01'", &["timestamp", "date"]),
            ("{c}::bool", &["int4", "text"]),
            ("{c}::uuid = auth.uid()", &["text"]),
            ("{c}::jsonb ->> 'a' = '1'", &["text", "json"]),
            ("{c}::varchar(1) = 'a'", &["text"]),
            ("{c} = 1.5", &["int4", "float8", "numeric", "float4"]),
            ("{c} > 1", &["int8", "int2", "numeric", "float8"]),
        ];
        let (form, types) = forms.choose(self.rng).unwrap();
        let (column, _) = self.column(types)?;
        Some(form.replace("{c}", &column))
    }

    /// What is left to Postgres, in whole or for some rows.
    fn foreign(&mut self) -> Option<String> {
        let forms: &[(&str, &[&str])] = &[
            ("{c} ~ '^a'", &["text", "varchar"]),
            ("md5({c}) > '8'", &["text"]),
            ("{c} + 1 > 2", &["int4", "int8", "numeric"]),
            ("10 / {c} > 1", &["int4"]),
            ("half({c}) = 3", &["int4"]),
            ("case when {c} > 1 then true else {c} is null end", &["int4", "int8", "numeric"]),
            ("now() > {c}", &["timestamptz"]),
            ("{c} collate \"C\" < 'b'", &["text"]),
            ("{c} @> array['a']", &["text[]"]),
            ("length({c}) = 1", &["text"]),
            ("{c} << '10.0.0.0/7'", &["inet"]),
            ("abs({c}) = 3", &["int4"]),
            ("row({c}, 1) = row(1, 1)", &["int4"]),
            ("({c} = 'a') = ({c} like 'a%')", &["text"]),
            ("nullif({c}, 1) is null", &["int4"]),
            ("greatest({c}, 1) = 7", &["int4"]),
            ("{c}[1] = 'a'", &["text[]"]),
        ];
        let (form, types) = forms.choose(self.rng).unwrap();
        let (column, _) = self.column(types)?;
        Some(form.replace("{c}", &column))
    }
}
