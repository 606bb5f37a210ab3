//! Values that must never be shown.

use serde_json::{Value as Json, json};

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Last words of a key whose value is a secret: Open vSwitch keeps IPsec and RADIUS secrets in plain `options`.
const SECRET_WORDS: [&str; 5] = ["psk", "password", "key", "secret", "passphrase"];

/// Whether the value under that key is a secret: one of its words (split at `_`, `-`, `.` and in `CamelCase`) says so.
///
/// Tunnel keys (`key`, `in_key`, `out_key` of GRE, Geneve and VXLAN) are numbers of networks, and are redacted all
/// the same: nobody is harmed by not seeing them here.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let is_secret = |word: &str| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret));
    key.split(['_', '-', '.']).any(|part| is_secret(part) || camel_words(part).any(is_secret))
}

/// The words of a `CamelCase` name, as D-Bus has them: `PreSharedKey`, `WPAKey`.
fn camel_words(name: &str) -> impl Iterator<Item = &str> {
    let bytes = name.as_bytes();
    let is = |at: Option<usize>, kind: fn(&u8) -> bool| at.and_then(|at| bytes.get(at)).is_some_and(kind);
    let begins = move |at: &usize| {
        is(Some(*at), u8::is_ascii_uppercase)
            && (is(at.checked_sub(1), u8::is_ascii_lowercase) || is(at.checked_add(1), u8::is_ascii_lowercase))
    };
    let starts = (1..bytes.len()).filter(begins);
    let ends = starts.clone().chain([bytes.len()]);
    std::iter::once(0).chain(starts).zip(ends).filter_map(|(start, end)| name.get(start..end))
}

/// Whether there is a secret in the value under that key: by the key, or by those of the maps in it.
#[must_use]
pub fn holds_secret(key: &str, value: &Json) -> bool {
    is_secret_key(key)
        || match value {
            Json::Array(items) => items.iter().any(|item| holds_secret("", item)),
            Json::Object(fields) => fields.iter().any(|(key, value)| holds_secret(key, value)),
            _ => false,
        }
}

/// A D-Bus value in JSON without what its keys say are secrets.
#[must_use]
pub fn redacted(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().map(redacted).collect(),
        Json::Object(fields) => {
            let shown = |(key, value): (&String, &Json)| {
                let value =
                    if is_secret_key(key) { json!({ "type": "s", "value": REDACTED }) } else { redacted(value) };
                (key.clone(), value)
            };
            Json::Object(fields.iter().map(shown).collect())
        }
        other => other.clone(),
    }
}

/// The value, or [`REDACTED`] where the key says it is a secret.
#[must_use]
pub fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret_key(key) { REDACTED } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_secrets_from_their_neighbours() {
        for key in
            ["psk", "radius_password", "in_key", "client-secret", "PASSWORD", "PreSharedKey", "WPAKey", "KeyData"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["remote_ip", "keyboard", "site", "monkey", "X11Keyboard", "MonKeys", "É"] {
            assert!(!is_secret_key(key), "{key}");
        }
        assert!(holds_secret("a", &serde_json::json!([{"b": {"psk": 1}}])));
        assert!(!holds_secret("a", &serde_json::json!([{"b": {"ssid": 1}}])));
        assert_eq!(shown("psk", "swordfish"), REDACTED);
        assert_eq!(shown("remote_ip", "192.0.2.9"), "192.0.2.9");
    }
}
