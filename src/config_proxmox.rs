//! `[proxmox]` of the configuration.

use std::{fs, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    config::{Bounded, LONGEST_MS},
    plugins::proxmox::{SecretSource, Settings, Timing, Trust, fingerprint},
};

/// The longest task that can be waited for: a day.
const LONGEST_TASK_MS: u64 = 24 * 60 * 60 * 1000;

/// `[proxmox]` as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// Where its API is. Without it there is no Proxmox VE.
    pub url: Option<String>,
    /// The node that op-dbus runs on. `None` = the host's name.
    pub node: Option<String>,
    /// The credential of op-dbus's unit that holds the API token.
    pub token_credential: Option<String>,
    /// The file that holds the API token.
    pub token_file: Option<PathBuf>,
    /// The CA that signed the API's certificate.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the API's certificate.
    pub fingerprint: Option<String>,
    /// Whatever certificate is shown is taken.
    pub insecure: bool,
    /// How long a call that reads may take, in milliseconds.
    pub read_timeout_ms: Option<Bounded<100, LONGEST_MS>>,
    /// How long a call that changes may take, in milliseconds.
    pub write_timeout_ms: Option<Bounded<1000, LONGEST_MS>>,
    /// How long a task may take, in milliseconds.
    pub task_timeout_ms: Option<Bounded<1000, LONGEST_TASK_MS>>,
    /// How long an upload of a template may take, in milliseconds.
    pub upload_timeout_ms: Option<Bounded<1000, LONGEST_TASK_MS>>,
    /// How long a container may take to shut down before it is made to, in milliseconds.
    pub shutdown_timeout_ms: Option<Bounded<1000, LONGEST_MS>>,
    /// How often its list is looked at, in milliseconds.
    pub poll_ms: Option<Bounded<500, LONGEST_MS>>,
    /// How often each declared container's configuration is looked at, in milliseconds.
    pub sweep_ms: Option<Bounded<1000, LONGEST_TASK_MS>>,
}

/// `[proxmox]`: how to reach Proxmox VE; `None` where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Proxmox(pub Option<Settings>);

impl TryFrom<Written> for Proxmox {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Some(url) = written.url.clone() else {
            // Bounds alone reach nobody.
            let texts = [&written.node, &written.token_credential, &written.fingerprint];
            let paths = [&written.token_file, &written.ca_file];
            let says = texts.iter().any(|text| text.is_some()) || paths.iter().any(|path| path.is_some());
            return if says || written.insecure {
                Err("url is missing: without it there is no Proxmox VE to reach".to_owned())
            } else {
                Ok(Self(None))
            };
        };
        if !url.starts_with("https://") || url.contains(['?', '#', ' ', '@']) {
            return Err(format!("url {url:?} must be an address as https://127.0.0.1:8006"));
        }
        let token = match (written.token_credential, written.token_file) {
            (Some(name), None) if !name.is_empty() && !name.contains('/') => SecretSource::Credential(name),
            (None, Some(path)) if path.is_absolute() => SecretSource::File(path),
            (Some(_), Some(_)) => return Err("token_credential and token_file are both given: keep one".to_owned()),
            (None, None) => return Err("the token is missing: give token_credential or token_file".to_owned()),
            _ => return Err("token_credential is a name, and token_file a path from the root on".to_owned()),
        };
        let pin = written.fingerprint.map(|text| {
            fingerprint(&text).ok_or_else(|| "fingerprint must be the 32 bytes of a SHA-256 in hexadecimal".to_owned())
        });
        let given = [written.ca_file.is_some(), pin.is_some(), written.insecure];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err("ca_file, fingerprint and insecure exclude one another: keep one".to_owned());
        }
        let trust = match (written.ca_file, pin.transpose()?, written.insecure) {
            (Some(path), ..) => Trust::CaFile(path),
            (None, Some(pin), _) => Trust::Pinned(pin),
            (None, None, true) => Trust::Insecure,
            (None, None, false) => Trust::System,
        };
        let default = Timing::default();
        let timing = Timing {
            connect: default.connect,
            read: written.read_timeout_ms.map_or(default.read, Bounded::millis),
            write: written.write_timeout_ms.map_or(default.write, Bounded::millis),
            task: written.task_timeout_ms.map_or(default.task, Bounded::millis),
            upload: written.upload_timeout_ms.map_or(default.upload, Bounded::millis),
            shutdown: written.shutdown_timeout_ms.map_or(default.shutdown, Bounded::millis).max(Duration::from_secs(1)),
            poll: written.poll_ms.map_or(default.poll, Bounded::millis),
            sweep: written.sweep_ms.map_or(default.sweep, Bounded::millis),
        };
        let Some(node) = written.node.filter(|node| !node.is_empty()).or_else(host_name) else {
            return Err("node is missing, and the host has no name".to_owned());
        };
        Ok(Self(Some(Settings { url, node, token, trust, timing })))
    }
}

/// The host's name, without its domain: what Proxmox VE calls its node.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().split('.').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Proxmox, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn nothing_is_none_and_all_of_it_is_read() {
        assert_eq!(read("").unwrap(), Proxmox(None));
        let settings = read(
            "url = 'https://pve.example:8006'\nnode = 'pve1'\ntoken_credential = 'pve'\nca_file = '/etc/pve/pve-root-ca.pem'\n\
             read_timeout_ms = 100\nwrite_timeout_ms = 1000\ntask_timeout_ms = 86400000\nupload_timeout_ms = 2000\nshutdown_timeout_ms = 1000\n\
             poll_ms = 500\nsweep_ms = 1000\n",
        );
        let settings = settings.unwrap().0.unwrap();
        assert_eq!(settings.node, "pve1");
        assert_eq!(settings.trust, Trust::CaFile("/etc/pve/pve-root-ca.pem".into()));
        assert_eq!(settings.timing.task, Duration::from_secs(24 * 60 * 60));
        assert_eq!(settings.timing.upload, Duration::from_secs(2));
        let pin = "AB:".repeat(31) + "CD";
        let text = format!("url = 'https://a'\ntoken_file = '/t'\nfingerprint = '{pin}'\n");
        let settings = read(&text).unwrap().0.unwrap();
        assert!(matches!(settings.trust, Trust::Pinned(_)) && !settings.node.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let token = "token_file = '/t'\n";
        for (text, why) in [
            ("node = 'a'".to_owned(), "url is missing"),
            (format!("url = 'http://a'\n{token}"), "https://"),
            (format!("url = 'https://user@a'\n{token}"), "https://"),
            ("url = 'https://a'".to_owned(), "the token is missing"),
            (format!("url = 'https://a'\n{token}token_credential = 'b'"), "keep one"),
            ("url = 'https://a'\ntoken_file = 't'".to_owned(), "from the root on"),
            (format!("url = 'https://a'\n{token}fingerprint = 'ab'"), "32 bytes"),
            (format!("url = 'https://a'\n{token}insecure = true\nca_file = '/c'"), "exclude one another"),
            (format!("url = 'https://a'\n{token}poll_ms = 1"), "not between"),
            (format!("url = 'https://a'\n{token}tokn = 1"), "unknown field"),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }
}
