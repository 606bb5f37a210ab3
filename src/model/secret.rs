//! Values that must never be shown.

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Last words of a key whose value is a secret: Open vSwitch keeps IPsec and RADIUS secrets in plain `options`.
const SECRET_WORDS: [&str; 5] = ["psk", "password", "key", "secret", "passphrase"];

/// Whether the value under that key is a secret: one of its words (split at `_`, `-`, `.`) says so.
///
/// Tunnel keys (`key`, `in_key`, `out_key` of GRE, Geneve and VXLAN) are numbers of networks, and are redacted all
/// the same: nobody is harmed by not seeing them here.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    key.split(['_', '-', '.']).any(|word| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

/// Whether there is a secret in the value under that key: by the key, or by those of the maps in it.
#[must_use]
pub fn holds_secret(key: &str, value: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    is_secret_key(key)
        || match value {
            Json::Array(items) => items.iter().any(|item| holds_secret("", item)),
            Json::Object(fields) => fields.iter().any(|(key, value)| holds_secret(key, value)),
            _ => false,
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
        for key in ["psk", "radius_password", "in_key", "client-secret", "PASSWORD"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["remote_ip", "keyboard", "site", "monkey"] {
            assert!(!is_secret_key(key), "{key}");
        }
        assert!(holds_secret("a", &serde_json::json!([{"b": {"psk": 1}}])));
        assert!(!holds_secret("a", &serde_json::json!([{"b": {"ssid": 1}}])));
        assert_eq!(shown("psk", "swordfish"), REDACTED);
        assert_eq!(shown("remote_ip", "192.0.2.9"), "192.0.2.9");
    }
}
