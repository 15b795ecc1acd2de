use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const DATABASE: (&str, &str) = ("REACTOR_DATA_DATABASE_URL", "postgres://app:s3cret@db:5432/app");
const SECRET: (&str, &str) = ("REACTOR_JWT_SECRET", "a-shared-secret");

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(toml: &str, env: &[(&str, &str)], flags: &[(&str, &str)], role: Role) -> Result<Config, ConfigErrors> {
    Config::from_sources(Some(toml), &map(env), &map(flags), role)
}

/// With the settings that a single process requires.
#[track_caller]
fn serve(toml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Config {
    let env: Vec<_> = [DATABASE, SECRET].iter().chain(env).copied().collect();
    load(toml, &env, flags, Role::Serve).unwrap()
}

#[track_caller]
fn problems(toml: &str, env: &[(&str, &str)], role: Role) -> Vec<String> {
    load(toml, env, &[], role).unwrap_err().problems
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = serve("", &[], &[]);
    assert_eq!(config.tenant.as_str(), "default");
    assert_eq!(config.listen.to_string(), "0.0.0.0:4000");
    assert_eq!(config.admin_listen.to_string(), "0.0.0.0:4001");
    assert_eq!(config.policy.listen.to_string(), "0.0.0.0:4100");
    assert_eq!(config.policy.timeout, Duration::from_secs(2));
    assert_eq!(config.policy.delete_events, DeleteEvents::Key);
    assert_eq!(config.realtime.heartbeat, Duration::from_secs(30));
    assert_eq!(config.realtime.max_subscriptions, 20);
    assert_eq!(config.realtime.replay_buffer, Duration::from_secs(300));
    assert_eq!(config.realtime.max_payload_bytes, 65_536);
    assert_eq!(config.realtime.max_connections, Some(10_000));
    assert!(!config.realtime.websocket_compression);
    assert_eq!(config.realtime.cors_origins, CorsOrigins::Any);
    assert_eq!(config.replication.publication, "supabase_realtime");
    assert_eq!((config.replication.confirm_lag, config.replication.max_lag_bytes), (None, None));
    assert_eq!(config.replication.confirm_lag_max_bytes, 1 << 30);
    assert_eq!(config.nats.max_bytes, 1 << 30);
    assert_eq!(config.auth.org_claim, "orgs");
    assert_eq!(config.auth.org_column, "org_id");
    assert_eq!(config.shutdown.drain, Duration::from_secs(10));
    assert_eq!(config.data.user_schema, "public");
    assert!(config.warnings.is_empty());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let toml =
        "[realtime]\nheartbeat_interval_secs = 10\nmax_subscriptions_per_connection = 11\nreplay_buffer_secs = 12";
    let env = [("REACTOR_REALTIME_HEARTBEAT_SECS", "20"), ("REACTOR_REALTIME_MAX_SUBSCRIPTIONS", "21")];
    let config = serve(toml, &env, &[("realtime.heartbeat_interval_secs", "40")]);
    assert_eq!(config.realtime.heartbeat, Duration::from_secs(40));
    assert_eq!(config.realtime.max_subscriptions, 21);
    assert_eq!(config.realtime.replay_buffer, Duration::from_secs(12));
}

#[test]
fn the_documented_file_is_taken_whole() {
    let toml = r#"
        [data]
        migrations_dir = "./migrations"
        user_schema = "app"
        [realtime]
        enabled = true
        heartbeat_interval_secs = 15
        max_subscriptions_per_connection = 5
        replay_buffer_secs = 60
        cors_origins = ["https://a.example", "https://b.example"]
        [auth.jwt_claim_validators]
        iss = "issuer"
        nbf = 1610078130
    "#;
    let config = serve(toml, &[], &[]);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.data.user_schema, "app");
    assert_eq!(config.realtime.max_subscriptions, 5);
    let origins = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
    assert_eq!(config.realtime.cors_origins, CorsOrigins::Listed(origins));
    let claims = BTreeMap::from([("iss".to_owned(), "issuer".into()), ("nbf".to_owned(), 1_610_078_130.into())]);
    assert_eq!(config.auth.jwt_claim_validators, claims);
}

#[test]
fn all_problems_come_at_once() {
    let toml = "[realtime]\nenabled = \"maybe\"\nheartbeat_interval_secs = 0";
    let env = [("REACTOR_LISTEN", "nowhere"), ("REACTOR_LOG_FORMAT", "xml"), ("DB_HOST", "h"), ("DB_PORT", "x")];
    assert_eq!(
        problems(toml, &env, Role::Serve),
        [
            "DB_HOST: DB_PORT: expected a port up to 65535",
            "REACTOR_LISTEN: expected an address and a port such as 0.0.0.0:4000 or [::]:4000, got \"nowhere\"",
            "realtime.enabled in the configuration file: expected true or false, got \"maybe\"",
            "realtime.heartbeat_interval_secs in the configuration file: expected seconds from 0.1 to 3600, got \"0\"",
            "REACTOR_LOG_FORMAT: expected auto, json or pretty, got \"xml\"",
            "auth.jwt_secret or auth.jwks_url is required: set REACTOR_JWT_SECRET or REACTOR_JWKS_URL, or --jwt-secret or --jwks-url",
        ]
    );
}

#[test]
fn each_role_says_what_it_lacks() {
    let lacks = |role| {
        let problems = load("", &[], &[], role).map(|_| ()).map_err(|errors| errors.problems);
        let keys = |problem: String| problem.split(" is required").next().unwrap_or_default().to_owned();
        problems.map_or_else(|problems| problems.into_iter().map(keys).collect(), |()| Vec::new())
    };
    let jwt = "auth.jwt_secret or auth.jwks_url";
    assert_eq!(lacks(Role::Serve), ["data.database_url", jwt]);
    assert_eq!(lacks(Role::Gateway), ["nats.url", "policy.url", jwt]);
    assert_eq!(lacks(Role::Replicator), ["data.database_url", "nats.url"]);
    assert_eq!(lacks(Role::Policy), ["data.database_url"]);
    assert_eq!(lacks(Role::Tool), Vec::<String>::new());
}

#[test]
fn what_is_set_wrongly_is_not_also_missing() {
    let env = [("REACTOR_DATA_DATABASE_URL", "localhost"), SECRET];
    let problems = problems("", &env, Role::Serve);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_role_does_not_read_what_it_does_not_use() {
    let env = [
        ("REACTOR_NATS_URL", "nats://n:4222"),
        ("REACTOR_POLICY_URL", "http://p:4100"),
        SECRET,
        ("REACTOR_DATA_DATABASE_URL", "not an address"),
    ];
    let config = load("", &env, &[], Role::Gateway).unwrap();
    assert_eq!(config.database_url, None);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn aliases_stand_in_for_our_own_variables() {
    let env = [
        ("PORT", "5000"),
        ("DB_HOST", "db.internal"),
        ("DB_PASSWORD", "pw"),
        ("JWT_SECRET", "legacy"),
        ("JWT_CLAIM_VALIDATORS", r#"{"iss":"x"}"#),
        ("PUBLICATIONS", r#"["mine"]"#),
        ("MAX_REPLICATION_LAG_MB", "5"),
        ("SLOT_NAME", "supabase_realtime"),
        ("LOG_LEVEL", "warning"),
        ("DB_ENC_KEY", "supabaserealtime"),
        ("SECURE_CHANNELS", "false"),
    ];
    let config = load("", &env, &[], Role::Serve).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:5000");
    let url = config.database_url.as_ref().map(|url| url.expose().as_str());
    assert_eq!(url, Some("postgres://postgres:pw@db.internal:5432/postgres"));
    assert_eq!(config.auth.jwt_secret.as_ref().map(|secret| secret.expose().as_str()), Some("legacy"));
    assert_eq!(config.auth.jwt_claim_validators.len(), 1);
    assert_eq!(config.replication.publication, "mine");
    assert_eq!(config.replication.max_lag_bytes, Some(5 << 20));
    assert_eq!(config.replication.slot_prefix, "supabase_realtime");
    assert_eq!(config.log.filter, "warn");
    assert!(config.auth.secret_key.is_some());
    assert!(config.warnings[0].contains("SECURE_CHANNELS"));
}

#[test]
fn our_own_variable_comes_before_an_alias_and_an_alias_before_the_file() {
    let toml = "listen = \"127.0.0.1:1\"\n[data]\ndatabase_url = \"postgres://file/db\"";
    let config = load(toml, &[("PORT", "2"), ("DB_HOST", "parts"), SECRET], &[], Role::Serve).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert!(config.database_url.as_ref().is_some_and(|url| url.expose().contains("parts")));
    let config = serve(toml, &[("PORT", "2"), ("REACTOR_LISTEN", "127.0.0.1:3"), ("DB_HOST", "parts")], &[]);
    assert_eq!(config.listen.port(), 3);
    assert!(config.database_url.as_ref().is_some_and(|url| url.expose().contains("@db:")));
}

#[test]
fn an_empty_variable_is_not_set() {
    let config = serve("listen = \"127.0.0.1:9\"", &[("REACTOR_LISTEN", ""), ("PORT", "")], &[]);
    assert_eq!(config.listen.port(), 9);
}

#[test]
fn unknown_names_warn() {
    let toml = "colour = 1\n[realtime]\nheartbeat = 5\n[nonsense]\na = 1\n[[things]]\nb = 2";
    let env = [
        ("REACTOR_HEARTBEAT", "5"),
        ("REACTOR_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("REACTOR_GATEWAY_PORT_4000_TCP_ADDR", "10.0.0.1"),
        ("REACTOR_CONFIG", "x"),
        ("SOMETHING_ELSE", "1"),
    ];
    let mut warnings = serve(toml, &env, &[]).warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "unknown key in the configuration file: colour",
            "unknown key in the configuration file: nonsense",
            "unknown key in the configuration file: realtime.heartbeat",
            "unknown key in the configuration file: things",
            "unknown variable: REACTOR_HEARTBEAT",
        ]
    );
}

#[test]
fn a_misspelt_requirement_comes_with_its_hint() {
    let errors = load("", &[DATABASE, ("REACTOR_JWT_SECERT", "x")], &[], Role::Serve).unwrap_err();
    assert_eq!((errors.problems.len(), errors.warnings.len()), (1, 1));
}

#[test]
fn a_file_that_is_no_toml_is_a_problem_with_its_line_and_without_its_text() {
    let problems = problems("[auth]\njwt_secret = hunter2\n", &[DATABASE, SECRET], Role::Serve);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("line 2 of the configuration file: "), "{problems:?}");
    assert!(!problems[0].contains("hunter2"), "{problems:?}");
}

#[test]
fn no_secret_is_printed_or_quoted() {
    let env = [
        ("REACTOR_NATS_URL", "nats://user:n4ts@n:4222"),
        ("REACTOR_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("REACTOR_API_JWT_SECRET", "apis3cret"),
        ("REACTOR_JWT_SECRET", "a-shared-s3cret"),
        ("REACTOR_JWKS_URL", "https://h/keys?token=t0ken"),
        DATABASE,
    ];
    let config = load("", &env, &[], Role::Tool).unwrap();
    for text in [config.print(), format!("{config:?}")] {
        for secret in ["s3cret", "n4ts", "AAAA", "t0ken"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(
        config
            .print()
            .contains("data.database_url = \"postgres://app:***@db:5432/app\"  # REACTOR_DATA_DATABASE_URL\n")
    );
    let wrong = [("REACTOR_DATA_DATABASE_URL", "mysql://app:s3cret@db"), ("REACTOR_SECRET_KEY", "s3cret"), SECRET];
    let problems = problems("", &wrong, Role::Serve).join("\n");
    assert!(!problems.contains("s3cret"), "{problems}");
}

#[test]
fn what_is_printed_is_a_file_that_can_be_read_again() {
    let printed = serve("", &[], &[("realtime.enabled", "false")]).print();
    assert!(printed.contains("realtime.enabled = false  # --realtime-enabled\n"), "{printed}");
    assert!(printed.contains("realtime.heartbeat_interval_secs = 30\n"), "{printed}");
    assert!(printed.contains("# auth.jwks_url is not set\n"), "{printed}");
    let again = load(&printed, &[], &[], Role::Serve).unwrap();
    assert_eq!(again.warnings, Vec::<String>::new());
    assert!(!again.realtime.enabled);
}

#[test]
fn things_that_do_not_go_together_are_found() {
    let same = [DATABASE, SECRET, ("REACTOR_LISTEN", "0.0.0.0:4001")];
    assert!(problems("", &same, Role::Serve)[0].contains("same address"));
    let tenant = "t".repeat(60);
    let long = [DATABASE, SECRET, ("REACTOR_TENANT", tenant.as_str())];
    assert!(problems("", &long, Role::Serve)[0].contains("slot name of 77 bytes"));
}

#[test]
fn zero_connections_is_no_limit() {
    assert_eq!(serve("", &[("MAX_CONNECTIONS", "0")], &[]).realtime.max_connections, None);
}

#[test]
fn the_table_is_sound() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        for name in
            [setting.key, setting.env, setting.flag].iter().chain(setting.aliases.iter().map(|alias| &alias.name))
        {
            assert!(names.insert(*name) || *name == setting.key, "{name} is used twice");
        }
        if let Some(default) = setting.default {
            assert!(setting.kind.read(default).is_ok(), "default of {}", setting.key);
        }
        assert!(setting.help.ends_with('.'), "help of {}", setting.key);
    }
}

#[test]
fn flags_are_read_from_the_command_line() {
    let command = clap::Command::new("x").args(clap_args(Role::Serve));
    command.clone().debug_assert();
    let line = [
        "x",
        "--database-url",
        "postgres://db/x",
        "--jwt-secret",
        "s",
        "--listen",
        "127.0.0.1:0",
        "--create-publication",
        "--realtime-enabled",
        "false",
    ];
    let matches = command.try_get_matches_from(line).unwrap();
    let config = Config::from_sources(None, &map(&[]), &super::flags::given(&matches), Role::Serve).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert!(config.replication.create_publication && !config.realtime.enabled);
    for role in Role::ALL {
        clap::Command::new("x").args(clap_args(*role)).debug_assert();
    }
}

#[test]
fn the_names_that_scripts_use_are_flags() {
    let flags: Vec<&str> = SETTINGS.iter().map(|setting| setting.flag).collect();
    for flag in [
        "database-url",
        "jwt-secret",
        "listen",
        "admin-listen",
        "nats-url",
        "policy-listen",
        "policy-url",
        "tenant",
        "publication",
    ] {
        assert!(flags.contains(&flag), "{flag}");
    }
}

#[test]
fn rules_come_from_the_file_or_as_json_and_every_problem_is_said() {
    let toml = "[[policy.rules]]\nrole = '*'\ntable = 'todos'\nusing = 'owner = auth.uid()'\n[[policy.rules]]\nrole = 'a'\ntable = 'app.notes'";
    let config = serve(toml, &[], &[]);
    assert_eq!(config.policy.rules.len(), 2);
    assert_eq!(config.policy.rules[0].using.as_deref(), Some("owner = auth.uid()"));
    assert_eq!(config.policy.rules[1].schema.as_deref(), Some("app"));
    let json = r#"[{"role":"a","table":"t"}]"#;
    assert_eq!(serve(toml, &[("REACTOR_POLICY_RULES", json)], &[]).policy.rules.len(), 1);
    let broken = "[[policy.rules]]\nrole = 'a'\nusing = 'owner = ('\n[[policy.rules]]\ntable = 't'\nrol = 'a'";
    let found = problems(broken, &[DATABASE], Role::Policy);
    let all = found.join("\n");
    for part in [
        "rule 1: table is missing",
        "rule 1: using: not understood",
        "rule 2: unknown key \"rol\"",
        "rule 2: role is missing",
    ] {
        assert!(all.contains(&format!("policy.rules in the configuration file: {part}")), "{part} in {all}");
    }
    assert_eq!(found.len(), 4, "{all}");
    let printed = config.print();
    assert_eq!(serve(&printed, &[], &[]).policy.rules, config.policy.rules, "what is printed can be read: {printed}");
}
