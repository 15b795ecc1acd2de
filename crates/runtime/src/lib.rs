//! What every service needs around its work: configuration, telemetry, metrics, the admin server, an orderly stop.
//!
//! Nothing here knows what the services do.

pub mod admin;
pub mod backoff;
pub mod build_info;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod docs;
pub mod health;
pub mod main_support;
pub mod metrics;
pub mod process;
pub mod shutdown;
pub mod signals;
pub mod telemetry;

pub use backoff::Backoff;
pub use config::{Config, ConfigErrors, PolicyRule, Role, Secret};
pub use health::{Liveness, Readiness};
pub use main_support::{ServiceContext, run_service, run_with};
pub use metrics::Registry;
pub use shutdown::Shutdown;
pub use telemetry::RateLimited;
