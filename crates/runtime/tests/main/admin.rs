use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reactor_runtime::admin::{Admin, AdminListener, AdminServer};
use reactor_runtime::build_info::{BuildInfo, VERSION};
use reactor_runtime::{Liveness, Readiness, Registry, Shutdown, clock};
use serde_json::json;

use crate::http::get;

struct Running {
    server: AdminServer,
    metrics: Registry,
    readiness: Readiness,
    shutdown: Shutdown,
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn start() -> Running {
    start_on(any_port())
}

fn start_on(address: SocketAddr) -> Running {
    let (metrics, shutdown) = (Registry::new(), Shutdown::default());
    let readiness = Readiness::new(&shutdown);
    let admin = Admin {
        build: BuildInfo::of("reactor-test"),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        liveness: Liveness::new(),
    };
    Running { server: AdminListener::bind(address).unwrap().serve(admin).unwrap(), metrics, readiness, shutdown }
}

#[test]
fn readiness_follows_the_checks_and_the_stop() {
    let running = start();
    let ready = || {
        let answer = get(running.server.address(), "/ready");
        (answer.status, answer.json())
    };
    assert_eq!(ready(), (503, json!({ "ready": false, "reasons": ["starting"] })));
    let connected = Arc::new(AtomicBool::new(false));
    let check = Arc::clone(&connected);
    running.readiness.add("nats", move || (!check.load(Ordering::Relaxed)).then(|| "not connected".to_owned()));
    running.readiness.add("postgres", || None);
    assert_eq!(ready(), (503, json!({ "ready": false, "reasons": ["nats: not connected"] })));
    connected.store(true, Ordering::Relaxed);
    assert_eq!(ready(), (200, json!({ "ready": true, "reasons": [] })));
    running.shutdown.begin_leaving();
    assert_eq!(ready(), (503, json!({ "ready": false, "reasons": ["stopping"] })));
    assert_eq!(get(running.server.address(), "/live").status, 200);
}

#[test]
fn metrics_and_version_are_served() {
    let running = start();
    running.metrics.counter("reactor_things_total", "things seen").inc_by(7);
    let answer = get(running.server.address(), "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("# HELP reactor_things_total things seen\n"), "{}", answer.body);
    assert!(answer.body.contains("reactor_things_total 7\n"), "{}", answer.body);
    let version = get(running.server.address(), "/version").json();
    assert_eq!((&version["name"], &version["version"]), (&json!("reactor-test"), &json!(VERSION)));
    assert_eq!(get(running.server.address(), "/elsewhere").status, 404);
}

#[test]
fn it_answers_while_every_worker_is_busy() {
    let running = start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..4 {
        let stop = Arc::clone(&stop);
        runtime.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    let before = clock::now();
    assert_eq!(get(running.server.address(), "/live").status, 200);
    assert!(clock::now() - before < Duration::from_secs(5));
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn a_taken_address_is_a_clear_error() {
    let first = AdminListener::bind(any_port()).unwrap();
    let error = AdminListener::bind(first.address()).unwrap_err();
    assert_eq!(error.to_string(), format!("the admin server cannot listen on {}", first.address()));
}

#[test]
fn dropping_the_server_frees_its_address() {
    // A port that nobody else is given: one that the system chose may be somebody's as soon as it is free.
    let address = SocketAddr::from(([127, 0, 0, 1], reactor_testkit::free_port().unwrap()));
    let Running { server, .. } = start_on(address);
    assert_eq!(get(address, "/live").status, 200);
    drop(server);
    assert!(AdminListener::bind(address).is_ok());
}
