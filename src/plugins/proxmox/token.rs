//! The API token: read from a systemd credential or a root-only file, shown nowhere.

use std::{
    fmt, fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// A secret text. It is written nowhere: not by Debug, and there is no Display.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps that text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever sends it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::REDACTED)
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A credential of op-dbus's unit (systemd.exec(5), LoadCredential).
    Credential(String),
    /// A file that only its owner can read.
    File(PathBuf),
}

/// Why there is no secret. Trying again helps once somebody has put it there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// op-dbus was given no credentials at all.
    #[error("there is no credential {0}: op-dbus's unit has no LoadCredential= for it")]
    NoCredentials(String),
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{0} can be read by others than its owner, and holds a secret: chmod 600 it")]
    Open(PathBuf),
    /// It is not root's, nor op-dbus's own.
    #[error("{0} belongs to neither root nor op-dbus's own user")]
    Foreign(PathBuf),
    /// It has no such form.
    #[error("{0} holds no token: it is one line, USER@REALM!ID=SECRET")]
    NoToken(PathBuf),
}

impl SecretSource {
    /// Reads the secret, without the line's end.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(&self) -> Result<Secret, SecretError> {
        self.read_in(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
    }

    fn path(&self, credentials: Option<&Path>) -> Result<PathBuf, SecretError> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => match credentials {
                Some(folder) => Ok(folder.join(name)),
                None => Err(SecretError::NoCredentials(name.clone())),
            },
        }
    }

    fn read_in(&self, credentials: Option<&Path>) -> Result<Secret, SecretError> {
        let path = self.path(credentials)?;
        let read = |source| SecretError::Read { path: path.clone(), source };
        if matches!(self, Self::File(_)) {
            // systemd guards its credentials by itself.
            let facts = fs::metadata(&path).map_err(read)?;
            if facts.permissions().mode() & 0o077 != 0 {
                return Err(SecretError::Open(path));
            }
            if facts.uid() != 0 && facts.uid() != rustix::process::geteuid().as_raw() {
                return Err(SecretError::Foreign(path));
            }
        }
        let text = fs::read_to_string(&path).map_err(read)?;
        Ok(Secret(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// Reads an API token.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read_token(&self) -> Result<Secret, SecretError> {
        let secret = self.read()?;
        let good = secret.0.split_once('!').is_some_and(|(user, rest)| {
            user.contains('@') && rest.split_once('=').is_some_and(|(id, key)| !id.is_empty() && !key.is_empty())
        }) && secret.0.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if good {
            return Ok(secret);
        }
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        Err(SecretError::NoToken(self.path(credentials.as_deref().map(Path::new)).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "root@pam!op=0123\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read_token(), Err(SecretError::Open(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(source.read_token().unwrap().reveal(), "root@pam!op=0123");
        fs::write(&path, "root@pam\n").unwrap();
        assert!(matches!(source.read_token(), Err(SecretError::NoToken(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.read_token(), Err(SecretError::Read { .. })));
    }

    #[test]
    fn credentials_come_from_systemd() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pve"), "a@b!c=d").unwrap();
        let source = SecretSource::Credential("pve".to_owned());
        assert_eq!(source.read_in(Some(folder.path())).unwrap().reveal(), "a@b!c=d");
        assert!(matches!(source.read_in(None), Err(SecretError::NoCredentials(_))));
    }

    #[test]
    fn it_shows_nowhere() {
        assert_eq!(format!("{:?}", Secret("a@b!c=d".to_owned())), "[redacted]");
    }
}
