//! The section `packagekit`.

use serde_json::{Value, json};

use super::{Case, check};
use crate::desired::code;

fn package(fields: &Value) -> Value {
    json!({"packagekit": {"packages": {"nginx": fields}}})
}

#[test]
fn packages() {
    const AT: &str = "/packagekit/packages/nginx";
    check(&[
        Case(package(&json!([])), &[(AT, code::WRONG_TYPE, "must be an object")]),
        Case(
            package(&json!({"ensure": "present", "versoin": "1"})),
            &[
                ("/packagekit/packages/nginx/ensure", code::OUT_OF_RANGE, "\"installed\", \"removed\", \"latest\""),
                ("/packagekit/packages/nginx/versoin", code::UNKNOWN_FIELD, "did you mean version?"),
            ],
        ),
        Case(
            package(&json!({"ensure": "installed", "version": 1})),
            &[("/packagekit/packages/nginx/version", code::WRONG_TYPE, "put it in quotes")],
        ),
        Case(
            package(&json!({"ensure": "installed", "version": "1 or 2"})),
            &[("/packagekit/packages/nginx/version", code::BAD_NAME, "is no version")],
        ),
        Case(
            package(&json!({"ensure": "latest", "version": "1.0"})),
            &[("/packagekit/packages/nginx/version", code::CONTRADICTION, "say \"ensure\": \"installed\"")],
        ),
        Case(
            package(&json!({"allow_downgrade": true, "allow_remove_others": true})),
            &[
                ("/packagekit/packages/nginx/allow_downgrade", code::CONTRADICTION, "say which version"),
                ("/packagekit/packages/nginx/allow_remove_others", code::CONTRADICTION, "say ensure"),
            ],
        ),
        Case(
            json!({"packagekit": {"packages": {"a;b": {}, "-a": {}, "a:b": {"arch": "b"}}}}),
            &[
                ("/packagekit/packages/a;b", code::BAD_NAME, "no package's name"),
                ("/packagekit/packages/-a", code::BAD_NAME, "no package's name"),
                ("/packagekit/packages/a:b/arch", code::CONTRADICTION, "take arch away"),
            ],
        ),
        Case(
            json!({"packagekit": {"packages": {"a:b": {}, "a": {"arch": "b"}}}}),
            &[("/packagekit/packages/a/arch", code::CONTRADICTION, "\"a:b\" is declared already")],
        ),
        Case(
            json!({"packagekit": {"refresh": "often", "pakages": {}}}),
            &[
                ("/packagekit/refresh", code::OUT_OF_RANGE, "\"before-apply\""),
                ("/packagekit/pakages", code::UNKNOWN_FIELD, "did you mean packages?"),
            ],
        ),
    ]);
}
