//! The admin server: `/live`, `/ready`, `/metrics`, `/version`.
//!
//! It has a thread and a runtime of its own, so that it answers while every worker of the other one is busy.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::build_info::BuildInfo;
use crate::clock;
use crate::health::{Liveness, Readiness};
use crate::metrics::Registry;

/// What Prometheus expects of its text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why there is no admin server.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken, or not ours.
    #[error("the admin server cannot listen on {address}")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No thread or no runtime could be made.
    #[error("the admin server cannot start")]
    Start(#[source] std::io::Error),
}

/// What the admin server tells about.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Name and version.
    pub build: BuildInfo,
    /// For `/metrics`.
    pub metrics: Registry,
    /// For `/ready`.
    pub readiness: Readiness,
    /// For `/live`.
    pub liveness: Liveness,
}

/// A bound address that nobody answers on yet.
#[derive(Debug)]
pub struct AdminListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Takes the address, before anything else is started.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let bound = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound().map_err(|source| AdminError::Bind { address, source })
    }

    /// Where it listens: with the real port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer, on a thread of its own.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn serve(self, admin: Admin) -> Result<AdminServer, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Start)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener).map_err(AdminError::Start)?
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    result = axum::serve(listener, router(admin)) => {
                        if let Err(error) = result {
                            tracing::error!(error = %error, "admin server stopped");
                        }
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(AdminError::Start)?;
        Ok(AdminServer { address: self.address, stop, thread: Some(thread) })
    }
}

/// The running admin server; dropping it stops it.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("admin thread panicked");
        }
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(admin)
}

async fn live(State(admin): State<Admin>) -> Response {
    match admin.liveness.stalled(clock::now()) {
        None => Json(json!({ "live": true })).into_response(),
        Some(silent) => {
            let reason = format!("no timer ran for {} s", silent.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "live": false, "reason": reason }))).into_response()
        }
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let reasons = admin.readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "reasons": reasons }))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], admin.metrics.render()).into_response()
}

async fn version(State(admin): State<Admin>) -> Json<BuildInfo> {
    Json(admin.build)
}
