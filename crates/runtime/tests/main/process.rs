//! Whole processes. The test binary starts itself again, with only the test `child` and a task in the environment.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use reactor_runtime::{Role, ServiceContext, Shutdown, clock, main_support, run_with};
use serde_json::Value;

use crate::http::{get, try_get};

/// What the child does: a way to behave, then arguments, separated by blanks.
const TASK: &str = "REACTOR_TEST_TASK";

/// How long a child may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
#[allow(clippy::exit, reason = "the code of the process is what its parent looks at")]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut words = task.split(' ');
    let way = words.next().unwrap().to_owned();
    let command = main_support::command(Role::Policy, "reactor-test", "A service for tests");
    let matches = command.get_matches_from(std::iter::once("reactor-test").chain(words));
    let code = run_with(&matches, Role::Policy, "reactor-test", |context| behave(way, context));
    std::process::exit([0, 1, 64].into_iter().find(|number| code == ExitCode::from(*number)).map_or(99, i32::from));
}

async fn behave(way: String, context: ServiceContext) -> Result<(), std::io::Error> {
    let shutdown = context.shutdown.clone();
    context.readiness.add("work", || None);
    match way.as_str() {
        "clean" => shutdown.draining().cancelled().await,
        "stuck" => std::future::pending().await,
        "returns" => {}
        "traces" => drop(tracing::info_span!("request").entered()),
        "fails" => return Err(std::io::Error::other("the work is impossible")),
        "panics" => spawn_panic(&shutdown).await,
        other => panic!("no such way: {other}"),
    }
    Ok(())
}

async fn spawn_panic(shutdown: &Shutdown) {
    shutdown.spawn_critical("heart", async {
        let value = clock::unix_secs();
        if value > 0 {
            panic!("value {value} of a row");
        }
        Ok::<(), std::io::Error>(())
    });
    shutdown.draining().cancelled().await;
}

struct Service {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: Vec<String>,
}

impl Service {
    fn start(task: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::child", "--nocapture"]);
        command.env(TASK, task).env("REACTOR_ADMIN_LISTEN", "127.0.0.1:0").env("REACTOR_LOG_FORMAT", "json");
        command.env("REACTOR_DATA_DATABASE_URL", "postgres://app:s3cret@db/app").envs(env.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, said: Vec::new() }
    }

    /// Reads until a line of standard error has this text.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "{text} was not said: {:?}", self.said);
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn admin(&mut self) -> SocketAddr {
        let line: Value = serde_json::from_str(&self.wait_for("admin server listens")).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The exit code and everything that was said on both outputs.
    fn end(mut self) -> (Option<i32>, String) {
        let rest = (&mut self.stderr).lines().map_while(Result::ok);
        self.said.extend(rest.map(|line| line + "\n"));
        let output = BufReader::new(self.child.stdout.take().unwrap()).lines().map_while(Result::ok);
        self.said.extend(output.map(|line| line + "\n"));
        let code = self.child.wait().unwrap().code();
        (code, self.said.concat())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline: Instant = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_wrong_configuration_exits_64_with_every_problem_and_binds_nothing() {
    let env = [("REACTOR_POLICY_LISTEN", "x"), ("REACTOR_DATA_DATABASE_URL", ""), ("REACTOR_SPEED", "9")];
    let (code, said) = Service::start("clean --log-format xml", &env).end();
    assert_eq!(code, Some(64), "{said}");
    for text in [
        "reactor-test: the configuration has 3 problems:",
        "  - REACTOR_POLICY_LISTEN: expected an address and a port",
        "  - --log-format: expected auto, json or pretty, got \"xml\"",
        "  - data.database_url is required",
        "also:\n  - unknown variable: REACTOR_SPEED",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    assert!(!said.contains("listens"), "{said}");
}

#[test]
fn unknown_names_only_warn_unless_the_configuration_is_checked() {
    let env = [("REACTOR_SPEED", "9")];
    let (code, said) = Service::start("returns", &env).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"level\":\"WARN\"") && said.contains("unknown variable: REACTOR_SPEED"), "{said}");
    let (code, said) = Service::start("clean --check-config", &env).end();
    assert_eq!(code, Some(64), "{said}");
    let (code, said) = Service::start("clean --check-config", &[]).end();
    assert_eq!((code, said.contains("the configuration is good")), (Some(0), true), "{said}");
}

#[test]
fn the_configuration_is_printed_without_secrets() {
    let (code, said) = Service::start("clean --print-config --tenant acme", &[]).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("tenant = \"acme\"  # --tenant\n"), "{said}");
    assert!(
        said.contains("data.database_url = \"postgres://app:***@db/app\"  # REACTOR_DATA_DATABASE_URL\n"),
        "{said}"
    );
}

#[test]
fn files_hold_settings_and_secrets() {
    let folder = std::env::temp_dir().join(format!("reactor-runtime-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (config, secret) = (folder.join("my.toml"), folder.join("url"));
    std::fs::write(&config, "tenant = \"of-the-file\"\n").unwrap();
    std::fs::write(&secret, "postgres://mounted:pw@db/app\n").unwrap();
    let env = [
        ("REACTOR_CONFIG", config.to_str().unwrap()),
        ("REACTOR_DATA_DATABASE_URL", ""),
        ("REACTOR_DATA_DATABASE_URL_FILE", secret.to_str().unwrap()),
    ];
    let (code, said) = Service::start("clean --print-config", &env).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("tenant = \"of-the-file\"  # file\n"), "{said}");
    assert!(said.contains("postgres://mounted:***@db/app"), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
    let (code, said) = Service::start("clean", &env).end();
    assert_eq!((code, said.matches("cannot be read").count()), (Some(64), 2), "{said}");
}

#[test]
fn a_signal_first_fails_readiness_then_drains_then_exits_0() {
    let mut service = Service::start("clean --ready-delay-secs 1", &[]);
    let admin = service.admin();
    until("readiness", || get(admin, "/ready").status == 200);
    assert!(get(admin, "/metrics").body.contains("process_open_fds"));
    service.signal("-TERM");
    until("the end of readiness", || get(admin, "/ready").status == 503);
    assert_eq!(get(admin, "/live").status, 200);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("every task finished"), "{said}");
    assert!(try_get(admin, "/live").is_err());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (second, expected) in [("-TERM", 143), ("-INT", 130)] {
        let mut service = Service::start("stuck --drain-secs 600", &[]);
        let admin = service.admin();
        until("readiness", || get(admin, "/ready").status == 200);
        service.signal("-TERM");
        service.wait_for("\"message\":\"stopping\"");
        service.signal(second);
        let (code, said) = service.end();
        assert_eq!(code, Some(expected), "{said}");
    }
}

#[test]
fn a_service_that_does_not_stop_is_cut() {
    let mut service = Service::start("stuck --drain-secs 0", &[]);
    let admin = service.admin();
    until("readiness", || get(admin, "/ready").status == 200);
    service.signal("-INT");
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cut: the service did not stop in time"), "{said}");
}

#[test]
fn a_failure_exits_1_with_its_reason() {
    let (code, said) = Service::start("fails", &[]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\nreactor-test: the work is impossible\n"), "{said}");
}

#[test]
fn a_panic_of_a_critical_task_exits_1_and_its_message_is_not_logged() {
    let (code, said) = Service::start("panics", &[]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("reactor-test: heart: panicked"), "{said}");
    assert!(said.contains("process.rs:") && !said.contains("of a row"), "{said}");
}

#[test]
fn a_taken_admin_address_exits_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = Service::start("clean", &[("REACTOR_ADMIN_LISTEN", &address)]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("reactor-test: the admin server cannot listen on {address}: Address already in use")),
        "{said}"
    );
}

#[test]
fn log_lines_are_json_with_rfc_3339_times() {
    let (_, said) = Service::start("returns", &[]).end();
    let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let starting = lines.iter().find(|line| line["message"] == "starting").unwrap();
    assert_eq!((&starting["level"], &starting["tenant"]), (&"INFO".into(), &"default".into()));
    let time = starting["timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
}

#[test]
fn traces_are_sent_to_the_collector_before_the_end() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let service = Service::start("traces", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let mut connection = None;
    until("the exporter", || {
        connection = collector.accept().ok();
        connection.is_some()
    });
    let (mut connection, _) = connection.unwrap();
    connection.set_nonblocking(false).unwrap();
    let mut preface = [0; 14];
    connection.read_exact(&mut preface).unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");
    drop((connection, collector));
    assert_eq!(service.end().0, Some(0));
}
