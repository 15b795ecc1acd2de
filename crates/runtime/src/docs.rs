//! Pages of the documentation that are made from the tables in the source.

use std::fmt::Write;

use crate::config::supabase::{DATABASE_PARTS, WITHOUT_EFFECT};
use crate::config::{Kind, OTHER_VARIABLES, Role, SETTINGS, Setting};
use crate::metrics::Registry;

const CONFIG_HEAD: &str = "\
# Settings

<!-- Generated from crates/runtime/src/config/settings.rs by `make docs`. -->

A setting is looked for in `reactor.toml` (the file that `--config` or `REACTOR_CONFIG` names, or `./reactor.toml`), then in
the environment, then among the flags; the last one found counts. A variable that is set to nothing is not set. Keys are
paths in the file: `realtime.enabled` is `enabled` under `[realtime]`.

A wrong configuration is refused before anything is bound, with all its problems at once and exit code 64. Unknown keys
and unknown `REACTOR_…` variables are warned about; `--check-config` refuses them. `--print-config` prints what is in
force and where it came from, without secrets.

Secrets can be mounted: where `REACTOR_X` is a secret, `REACTOR_X_FILE` names a file that holds it.
";

const RULES: &str = r#"
## Rules: `[[policy.rules]]`

For tables that do not use row-level security, or for roles without grants. Each rule is a table of the file:

```toml
[[policy.rules]]
role = "authenticated"
table = "todos"
using = "owner_id = auth.uid()"
```

| key | |
|---|---|
| `role` | The token's role, or `*` for every role. |
| `table` | The table, with its schema or without: then it is in `data.user_schema`. |
| `permission` | What is permitted: `read`, also written `select` or `data:<table>:read`. Not set: `read`. |
| `using` | A condition in SQL over the table's columns, as in `CREATE POLICY … USING`. Not set: all rows. |

A rule permits its role to read the rows for which `using` holds, whether or not the role has a grant or exists in the
database. Several rules for the same role and table are alternatives. Where there is a rule, the rows that no rule is true
for are not seen, even with a grant. The table's own row-level security applies as well: a row must pass both.

`auth.uid()`, `auth.role()`, `auth.email()` and `auth.jwt()` stand for the token's claims, also in a database that has no
such functions. Names of other functions and tables need their schema.
"#;

/// `docs/config.md`.
#[must_use]
pub fn config_markdown() -> String {
    let mut page = CONFIG_HEAD.to_owned();
    let mut section = None;
    for setting in SETTINGS {
        let name = setting.key.split_once('.').map_or("", |(section, _)| section);
        if section != Some(name) {
            section = Some(name);
            let title = if name.is_empty() { "The process".to_owned() } else { format!("`[{name}]`") };
            let _ = write!(
                page,
                "\n## {title}\n\n| key | variable | flag | default | used by | |\n|---|---|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            page,
            "| `{}` | `{}`{} | {} | {} | {} | {} |",
            setting.key,
            setting.env,
            if setting.secret { " (secret)" } else { "" },
            if setting.roles.is_empty() { String::new() } else { format!("`--{}`", setting.flag) },
            setting.default.map(|text| format!("`{text}`")).unwrap_or_default(),
            used_by(setting),
            meaning(setting).replace('|', "\\|"),
        );
    }
    page.push_str(RULES);
    page.push_str("\n## Other variables\n\n| variable | |\n|---|---|\n");
    for (name, what) in OTHER_VARIABLES {
        let _ = writeln!(page, "| `{name}` | {what} |");
    }
    page.push_str(&container_markdown());
    page
}

fn meaning(setting: &Setting) -> String {
    match setting.kind {
        Kind::Text => setting.help.to_owned(),
        kind => format!("{} Takes {kind}.", setting.help),
    }
}

fn used_by(setting: &Setting) -> String {
    let services: Vec<Role> = Role::ALL.iter().copied().filter(|role| *role != Role::Tool).collect();
    if services.iter().all(|role| setting.roles.contains(role)) {
        return "all".to_owned();
    }
    let names = setting.roles.iter().filter(|role| services.contains(role) || setting.roles.len() == 1);
    let names: Vec<&str> = names.map(|role| if *role == Role::Tool { "reactor" } else { role.name() }).collect();
    names.join(", ")
}

fn container_markdown() -> String {
    let mut page = "\n## In the place of supabase/realtime\n\n\
        The variables of its container are accepted. Our own variable for the same thing comes first.\n\n\
        | variable | stands for |\n|---|---|\n"
        .to_owned();
    for setting in SETTINGS {
        for alias in setting.aliases {
            let _ = writeln!(page, "| `{}` | `{}`{} |", alias.name, setting.env, alias.note());
        }
    }
    page.push_str("| `API_JWT_SECRET`, with `SEED_SELF_HOST=true` | also `REACTOR_JWT_SECRET`, as the container's own tenant has it |\n");
    page.push_str("\nThe database's address can come in parts, where `REACTOR_DATA_DATABASE_URL` is not set:\n\n| variable | |\n|---|---|\n");
    for (name, what) in DATABASE_PARTS {
        let _ = writeln!(page, "| `{name}` | {what} |");
    }
    page.push_str("\nThese change nothing:\n\n| variables | because |\n|---|---|\n");
    for (names, why) in WITHOUT_EFFECT {
        let names: Vec<String> = names.split(", ").map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "| {} | {why} |", names.join(", "));
    }
    page
}

/// `docs/metrics.md`, of everything that was made in a registry.
#[must_use]
pub fn metrics_markdown(registry: &Registry) -> String {
    let mut page = "# Metrics\n\n<!-- Generated from the services' metrics by `make docs`. -->\n\n\
        On the admin port of every service, at `/metrics`. No label has values that a client can choose.\n\n\
        | name | kind | labels | |\n|---|---|---|---|\n"
        .to_owned();
    for info in registry.inventory() {
        let labels: Vec<String> = info.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = info.help.replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} | {} | {help} |", info.name, info.kind, labels.join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_and_every_name_of_it_is_documented() {
        let page = config_markdown();
        for setting in SETTINGS {
            for name in [setting.key, setting.env, setting.help] {
                assert!(page.contains(&name.replace('|', "\\|")), "{name}");
            }
            for alias in setting.aliases {
                assert!(page.contains(&format!("| `{}` | `{}`", alias.name, setting.env)), "{}", alias.name);
            }
        }
        for name in ["DB_PASSWORD", "REPLICATION_MODE", "SECRET_KEY_BASE", "REACTOR_CONFIG"] {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn tables_have_as_many_cells_as_their_heads() {
        let mut cells = 0;
        for line in config_markdown().lines() {
            let bars = line.replace("\\|", "").matches('|').count();
            if line.starts_with("|---") {
                cells = bars;
            } else if line.starts_with("| `") {
                assert_eq!(bars, cells, "{line}");
            }
        }
    }

    #[test]
    fn metrics_are_listed_by_name() {
        let registry = Registry::new();
        registry.gauge("reactor_b", "a or b");
        registry.counter_vec("reactor_a_total", "things", &["kind", "tenant"]);
        let page = metrics_markdown(&registry);
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(
            rows,
            ["| `reactor_a_total` | counter | `kind`, `tenant` | things |", "| `reactor_b` | gauge |  | a or b |"]
        );
    }
}
