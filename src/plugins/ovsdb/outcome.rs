//! What the answer to a transaction says (RFC 7047, 4.1.3): one element for each operation, nulls after the first
//! that failed, and one more element when the commit itself failed.

use serde_json::Value;

use super::{rpc::RemoteError, transact::Operation};
use crate::model::Reason;

/// Errors of OVSDB that may pass by themselves (RFC 7047, 5.2; ovsdb-server(7)).
const PASSING: [&str; 5] = ["timed out", "aborted", "canceled", "resources exhausted", "I/O error"];

/// A transaction that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The operation that failed; `None` = the commit, or the request as a whole.
    pub(super) at: Option<usize>,
    /// It is a guard: the rows are not as they were read.
    pub(super) guard: bool,
    /// What the server says.
    pub(super) error: RemoteError,
}

impl Failure {
    /// Reason, text and whether trying again may help.
    pub(super) fn problem(&self) -> (Reason, String, bool) {
        if self.guard {
            let message = "another client changed the same rows again and again".to_owned();
            return (Reason::Contended, message, true);
        }
        (Reason::Refused, self.error.to_string(), PASSING.contains(&self.error.error.as_str()))
    }
}

/// The new `next_cfg` of a transaction that was carried out.
pub(super) fn judge(results: &[Value], operations: &[Operation]) -> Result<i64, Failure> {
    if let Some((at, element)) = results.iter().enumerate().find(|(_, element)| element.get("error").is_some()) {
        let operation = operations.get(at);
        return Err(Failure {
            at: operation.map(|_| at),
            guard: operation.is_some_and(|operation| operation.guard),
            error: RemoteError::from_value(element),
        });
    }
    let garbled = || Failure {
        at: None,
        guard: false,
        error: RemoteError { error: "the answer to the transaction is garbled".to_owned(), details: String::new() },
    };
    if results.len() != operations.len() || results.iter().any(Value::is_null) {
        return Err(garbled());
    }
    let number = results.iter().find_map(|element| element.pointer("/rows/0/next_cfg")?.as_i64());
    number.ok_or_else(garbled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn operations() -> Vec<Operation> {
        let operation = |guard| Operation { json: json!({}), action: Some(0), guard };
        vec![operation(true), operation(false), operation(false)]
    }

    #[test]
    fn all_elements_are_looked_at() {
        let ok = [json!({}), json!({"count": 1}), json!({"rows": [{"next_cfg": 8}]})];
        assert_eq!(judge(&ok, &operations()), Ok(8));

        let guard =
            [json!({"error": "timed out", "details": "\"where\" clause test failed"}), json!(null), json!(null)];
        let failure = judge(&guard, &operations()).unwrap_err();
        assert_eq!((failure.at, failure.problem().0, failure.problem().2), (Some(0), Reason::Contended, true));

        let middle = [json!({}), json!({"error": "constraint violation", "details": "5000 is out"}), json!(null)];
        let failure = judge(&middle, &operations()).unwrap_err();
        assert_eq!(failure.at, Some(1));
        assert_eq!(failure.problem(), (Reason::Refused, "constraint violation: 5000 is out".to_owned(), false));

        let mut commit = ok.to_vec();
        commit.push(json!({"error": "I/O error"}));
        let failure = judge(&commit, &operations()).unwrap_err();
        assert_eq!((failure.at, failure.problem().2), (None, true));
    }

    #[test]
    fn a_garbled_answer_is_no_success() {
        let short = vec![json!({}), json!({"rows": [{"next_cfg": 1}]})];
        for garbled in
            [short, vec![], vec![json!({}); 3], vec![json!({}), json!(null), json!({"rows": [{"next_cfg": 1}]})]]
        {
            assert_eq!(judge(&garbled, &operations()).unwrap_err().at, None);
        }
    }
}
