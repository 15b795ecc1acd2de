//! What this binary was built from, for `--version`, `/version` and a metric.

use serde::Serialize;

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of the source, when the build set `REACTOR_GIT_COMMIT`.
pub const GIT_COMMIT: Option<&str> = option_env!("REACTOR_GIT_COMMIT");

/// The answer of `/version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BuildInfo {
    /// Name of the binary or service.
    pub name: &'static str,
    /// Version of the workspace.
    pub version: &'static str,
    /// Commit of the source, where the build knew it.
    pub git_commit: Option<&'static str>,
}

impl BuildInfo {
    /// Of the running binary, under the given name.
    #[must_use]
    pub fn of(name: &'static str) -> Self {
        Self { name, version: VERSION, git_commit: GIT_COMMIT }
    }
}

/// Version and commit in one word group, as `--version` prints it after the name.
#[must_use]
pub fn version_line() -> String {
    GIT_COMMIT.map_or_else(|| VERSION.to_owned(), |commit| format!("{VERSION} ({commit})"))
}
