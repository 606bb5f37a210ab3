//! The trailing `a{sv}` of a call: an unknown key is refused, since an ignored one might be what the caller relied on.

use std::collections::HashMap;

use zbus::OwnedVariant;

use super::error::CallError;

/// Options or filter of one call, checked for unknown keys.
#[derive(Debug)]
pub(crate) struct Options {
    given: HashMap<String, OwnedVariant>,
    what: &'static str,
}

impl Options {
    /// The options of `what` (how messages call them), of which only those keys are known.
    pub(crate) fn new(
        what: &'static str,
        given: HashMap<String, OwnedVariant>,
        known: &[&str],
    ) -> Result<Self, CallError> {
        let mut unknown: Vec<&str> = given.keys().map(String::as_str).filter(|key| !known.contains(key)).collect();
        if unknown.is_empty() {
            return Ok(Self { given, what });
        }
        unknown.sort_unstable();
        let known = if known.is_empty() { "it takes none".to_owned() } else { format!("known: {}", known.join(", ")) };
        Err(CallError::InvalidArgs(format!("{what} does not know {}; {known}", unknown.join(", "))))
    }

    /// A boolean; `false` where it is not given.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, CallError> {
        Ok(self.bool(key)?.unwrap_or(false))
    }

    /// A boolean.
    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, CallError> {
        self.typed(key, "b", |value| bool::try_from(value).ok())
    }

    /// An unsigned number.
    pub(crate) fn u64(&self, key: &str) -> Result<Option<u64>, CallError> {
        self.typed(key, "t", |value| u64::try_from(value).ok())
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, CallError> {
        self.typed(key, "s", |value| <&str>::try_from(value).ok())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        signature: &str,
        read: impl FnOnce(&'a zbus::Variant<'static>) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        let Some(value) = self.given.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(CallError::InvalidArgs(format!(
                "{key} of {} must be of type {signature}, not {}",
                self.what,
                value.value_signature()
            ))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn given<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> HashMap<String, OwnedVariant> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.try_to_owned().unwrap())).collect()
    }

    #[test]
    fn an_unknown_key_is_named_with_those_known() {
        let why = Options::new("Plan", given([("atomic", Variant::from(true))]), &["a", "b"]).unwrap_err();
        assert_eq!(why, CallError::InvalidArgs("Plan does not know atomic; known: a, b".to_owned()));
        let why = Options::new("Plan", given([("x", Variant::from(true))]), &[]).unwrap_err();
        assert_eq!(why, CallError::InvalidArgs("Plan does not know x; it takes none".to_owned()));
    }

    #[test]
    fn a_wrong_type_is_named_with_the_right_one() {
        let options = Options::new("Plan", given([("n", Variant::from(1_u32))]), &["n"]).unwrap();
        assert_eq!(
            options.u64("n").unwrap_err(),
            CallError::InvalidArgs("n of Plan must be of type t, not u".to_owned())
        );
        assert_eq!(options.bool("absent").unwrap(), None);
    }
}
