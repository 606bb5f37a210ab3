//! JSON-RPC 1.0 messages (RFC 7047, section 4), as ovsdb-server writes and reads them.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// A message that the server sent. What may be long is still text: 10,000 ports as a tree of values would take ten
/// times the room.
#[derive(Debug, Clone)]
pub(super) enum Incoming<'a> {
    /// The answer to one of our requests.
    Reply {
        /// The number that we gave the request.
        id: u64,
        /// The result (`None` = null), or the error.
        result: Result<Option<&'a RawValue>, RemoteError>,
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
        params: Option<&'a RawValue>,
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
struct Raw<'a> {
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Value,
}

impl<'a> Incoming<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// The message is not JSON-RPC.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw<'a> = serde_json::from_slice(frame)?;
        Ok(match raw.method {
            Some(method) if raw.id.is_null() => Self::Notification { method, params: raw.params },
            Some(method) if method == "echo" => {
                let params = raw.params.map(|params| serde_json::from_str(params.get())).transpose()?;
                Self::Echo { id: raw.id, params: params.unwrap_or_default() }
            }
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

    #[test]
    fn tells_the_kinds_of_message_apart() {
        let text = json!({"id": 7, "result": [1], "error": null}).to_string();
        let message = Incoming::parse(text.as_bytes()).unwrap();
        assert!(matches!(message, Incoming::Reply { id: 7, result: Ok(Some(result)) } if result.get() == "[1]"));
        let text = json!({"method": "echo", "params": ["x"], "id": "echo"}).to_string();
        let message = Incoming::parse(text.as_bytes()).unwrap();
        assert!(matches!(message, Incoming::Echo { id, params } if id == "echo" && params == json!(["x"])));
        let text = json!({"id": null, "method": "update3", "params": ["m"]}).to_string();
        let message = Incoming::parse(text.as_bytes()).unwrap();
        assert!(matches!(message, Incoming::Notification { method, params: Some(params) }
            if method == "update3" && params.get() == r#"["m"]"#));
        let text = json!({"id": "x", "result": 1, "error": null}).to_string();
        assert!(matches!(Incoming::parse(text.as_bytes()).unwrap(), Incoming::Other));
    }

    fn error(message: &Value) -> RemoteError {
        match Incoming::parse(message.to_string().as_bytes()).unwrap() {
            Incoming::Reply { result: Err(error), .. } => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_without_result_is_an_error() {
        let unknown = error(&json!({"id": 1, "error": {"error": "unknown method", "details": "no x"}}));
        assert_eq!(unknown.to_string(), "unknown method: no x");
        assert_eq!(error(&json!({"id": 1, "error": "unknown method"})).error, "unknown method");
    }

    #[test]
    fn refuses_what_is_no_message() {
        assert!(Incoming::parse(b"{\"id\":1,").is_err());
        assert!(Incoming::parse(br#"{"method":5}"#).is_err());
    }
}
