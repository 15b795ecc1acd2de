//! Folders for servers, in a place that the non-root user of Postgres can reach.
//!
//! They are under `/tmp` rather than beside the checkout or in `TMPDIR`, which may be closed to other users.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};

/// The user that a server runs as, where it is not the user of the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whom to run Postgres as: it refuses to run as root.
pub(crate) fn postgres_identity() -> Result<Option<Identity>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    anyhow::bail!("Postgres does not run as root, and there is neither a user postgres nor a user nobody")
}

/// The folder of this user's locks and templates.
pub(crate) fn base() -> Result<PathBuf> {
    let uid = geteuid().as_raw();
    let base = PathBuf::from(format!("/tmp/reactor-testkit-{uid}"));
    match std::fs::DirBuilder::new().mode(0o755).create(&base) {
        Ok(()) => std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", base.display())),
    }
    let owner = std::fs::symlink_metadata(&base)?.uid();
    ensure!(owner == uid, "{} belongs to user {owner}, not to this one ({uid})", base.display());
    Ok(base)
}

/// A folder of its own for one server, removed with this value. Directly in `/tmp`, where its owner may remove it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one and gives it to `owner`.
    pub(crate) fn new(kind: &str, owner: Option<Identity>) -> Result<Self> {
        let kind = kind.strip_prefix("reactor-").unwrap_or(kind);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = PathBuf::from(format!("/tmp/reactor-{kind}-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let folder = Self { path };
                    give(folder.path(), owner)?;
                    return Ok(folder);
                }
                // Left by an earlier process of the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A backend that has just been killed may still be leaving a file.
        for _ in 0..20 {
            match std::fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        tracing::warn!(folder = %self.path.display(), "cannot remove the folder of a test server");
    }
}

/// Makes `owner` the owner of `path`.
pub(crate) fn give(path: &Path, owner: Option<Identity>) -> Result<()> {
    if let Some(Identity { uid, gid }) = owner {
        chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give away {}", path.display()))?;
    }
    Ok(())
}
