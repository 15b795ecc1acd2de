//! The file with the logins: readable by its owner only, written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// A token and what goes with it. Has no `Debug`: nothing of it is to be printed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
struct Contents {
    /// By the gateway's scheme, host and port: a token is sent to no other.
    logins: BTreeMap<String, Login>,
}

/// The logins of this user.
pub(super) struct Store {
    path: PathBuf,
    contents: Contents,
}

impl Store {
    /// Reads the file; there may be none yet.
    pub(super) fn open() -> Result<Self> {
        Self::open_at(folder()?.join("credentials.json"))
    }

    fn open_at(path: PathBuf) -> Result<Self> {
        let contents = match fs::read(&path) {
            // The parser's message could quote the file.
            Ok(bytes) => serde_json::from_slice(&bytes)
                .ok()
                .with_context(|| format!("{} is damaged: remove it and log in again", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Contents::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path, contents })
    }

    /// The login for a gateway.
    pub(super) fn login(&self, origin: &str) -> Option<&Login> {
        self.contents.logins.get(origin)
    }

    /// The gateways that there is a login for.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.contents.logins.keys().map(String::as_str)
    }

    /// Puts a login in the place of the one before.
    pub(super) fn put(&mut self, origin: String, login: Login) -> Result<()> {
        self.contents.logins.insert(origin, login);
        self.save()
    }

    /// Removes a login; false when there is none.
    pub(super) fn remove(&mut self, origin: &str) -> Result<bool> {
        if self.contents.logins.remove(origin).is_none() {
            return Ok(false);
        }
        self.save()?;
        Ok(true)
    }

    fn save(&self) -> Result<()> {
        let doing = || format!("cannot write {}", self.path.display());
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(doing)?;
        }
        let text = serde_json::to_string_pretty(&self.contents)?;
        // Beside the file, so that it can take its place; with this process's number, so that two do not share it.
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        let written = write_private(&new, &text).and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            // It may not have been made at all.
            let _ = fs::remove_file(&new);
        }
        written.with_context(doing)
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // Left by a process that was killed, with whatever rights.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// `$XDG_CONFIG_HOME/reactor`, or `~/.config/reactor`.
fn folder() -> Result<PathBuf> {
    // The standard says that a relative path there is to be passed over.
    let given = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    match given.or_else(|| home.map(|home| home.join(".config"))) {
        Some(config) => Ok(config.join("reactor")),
        None => bail!("there is no place for logins: neither XDG_CONFIG_HOME nor HOME is set"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(token: &str) -> Login {
        Login { access_token: token.to_owned(), refresh_token: None, expires_at: Some(7) }
    }

    #[test]
    fn logins_are_kept_by_gateway_and_privately() {
        let folder = std::env::temp_dir().join(format!("reactor-store-{}", std::process::id()));
        let path = folder.join("deep/credentials.json");
        let open = || Store::open_at(path.clone()).expect("the store opens");

        open().put("http://a".to_owned(), login("one")).expect("it is written");
        open().put("http://b".to_owned(), login("two")).expect("it is written");
        open().put("http://a".to_owned(), login("three")).expect("it is written");
        assert_eq!(open().login("http://a").map(|login| login.access_token.as_str()), Some("three"));
        assert_eq!(open().origins().collect::<Vec<_>>(), ["http://a", "http://b"]);
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));

        assert!(open().remove("http://a").expect("it is written"));
        assert!(!open().remove("http://a").expect("nothing to do"));
        assert!(open().login("http://a").is_none());
        let files = fs::read_dir(path.parent().expect("a folder")).expect("readable").count();
        assert_eq!(files, 1, "nothing is left behind");

        fs::write(&path, r#"{"logins":{"x":{"access_token":"secret""#).expect("writable");
        let error = Store::open_at(path.clone()).err().expect("it is damaged").to_string();
        assert!(error.contains("damaged") && !error.contains("secret"), "{error}");
        fs::remove_dir_all(&folder).expect("removable");
    }
}
