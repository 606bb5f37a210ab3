//! JSON-RPC 1.0 messages (RFC 7047, section 4), as ovsdb-server writes and reads them.

use serde::Deserialize;
use serde_json::{Value, json};

/// A message that the server sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Incoming {
    /// The answer to one of our requests.
    Reply {
        /// The number that we gave the request.
        id: u64,
        /// The result, or the error.
        result: Result<Value, RemoteError>,
    },
    /// The server asks whether we live: the same `id` and `params` go back.
    Echo {
        /// Its id.
        id: Value,
        /// Its parameters.
        params: Value,
    },
    /// A notification: `update`, `update2`, `update3`, `monitor_canceled`, ...
    Notification {
        /// The method.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// A request or an answer that is not for us: of no consequence.
    Other,
}

/// The error of a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub(super) struct RemoteError {
    /// The word: `unknown method`, `syntax error`, ...
    pub(super) error: String,
    /// What the server says of it.
    pub(super) details: String,
}

impl RemoteError {
    /// Reads the forms that servers use: a text, or an object with `error` and `details`.
    #[must_use]
    pub(super) fn from_value(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match value {
            Value::String(error) => Self { error: error.clone(), details: String::new() },
            Value::Object(object) if object.contains_key("error") => {
                Self { error: text("error"), details: text("details") }
            }
            other => Self { error: other.to_string(), details: String::new() },
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

impl Incoming {
    /// Reads one message.
    ///
    /// # Errors
    /// The message is not JSON-RPC.
    pub(super) fn parse(frame: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(frame)?;
        Ok(match raw.method {
            Some(method) if raw.id.is_null() => Self::Notification { method, params: raw.params },
            Some(method) if method == "echo" => Self::Echo { id: raw.id, params: raw.params },
            Some(_) => Self::Other,
            None => match raw.id.as_u64() {
                None => Self::Other,
                // An unknown method answers without a `result`; success has `"error": null`.
                Some(id) if raw.error.is_null() => Self::Reply { id, result: Ok(raw.result) },
                Some(id) => Self::Reply { id, result: Err(RemoteError::from_value(&raw.error)) },
            },
        })
    }
}

/// A request of ours.
#[must_use]
pub(super) fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    json!({"method": method, "params": params, "id": id}).to_string().into_bytes()
}

/// The answer to the server's echo.
#[must_use]
pub(super) fn echo_reply(id: &Value, params: &Value) -> Vec<u8> {
    json!({"id": id, "result": params, "error": null}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn parse(value: &Value) -> Incoming {
        Incoming::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn tells_the_kinds_of_message_apart() {
        assert_eq!(
            parse(&json!({"id": 7, "result": [1], "error": null})),
            Incoming::Reply { id: 7, result: Ok(json!([1])) }
        );
        assert_eq!(
            parse(&json!({"method": "echo", "params": [], "id": "echo"})),
            Incoming::Echo { id: json!("echo"), params: json!([]) }
        );
        assert_eq!(
            parse(&json!({"id": null, "method": "update3", "params": ["m"]})),
            Incoming::Notification { method: "update3".into(), params: json!(["m"]) }
        );
        assert_eq!(parse(&json!({"id": "x", "result": 1, "error": null})), Incoming::Other);
    }

    #[test]
    fn an_error_without_result_is_an_error() {
        let Incoming::Reply { result: Err(error), .. } =
            parse(&json!({"id": 1, "error": {"error": "unknown method", "details": "no x"}}))
        else {
            panic!("not an error")
        };
        assert_eq!(error.to_string(), "unknown method: no x");
        let Incoming::Reply { result: Err(error), .. } = parse(&json!({"id": 1, "error": "unknown method"})) else {
            panic!("not an error")
        };
        assert_eq!(error.error, "unknown method");
    }

    #[test]
    fn refuses_what_is_no_message() {
        assert!(Incoming::parse(b"{\"id\":1,").is_err());
        assert!(Incoming::parse(br#"{"method":5}"#).is_err());
    }
}
