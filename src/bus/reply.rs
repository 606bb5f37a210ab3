//! Replies as messages.

use serde::Serialize;
use tracing::error;
use zbus::{DynamicType, Message, message::Flags};

use super::{error::CallError, value::Text};

/// No message of ours is larger: the bus throws off whoever sends more than 32 MiB, and the rest is for the header
/// and for what a bus configured tighter might count.
pub(crate) const MAX_MESSAGE_BYTES: usize = 28 * 1024 * 1024;

/// The text of an error is cut here: a document can have more faults than a message can carry.
const MAX_ERROR_BYTES: usize = 1024 * 1024;

/// Whether the caller waits for a reply.
pub(crate) fn is_expected(call: &Message) -> bool {
    !call.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED)
}

/// The reply with that body, or the refusal; `None` where the caller expects none.
pub(crate) fn answer<B: Serialize + DynamicType>(call: &Message, body: Result<B, CallError>) -> Option<Message> {
    match body {
        Ok(body) => reply(call, &body),
        Err(why) => refusal(call, &why),
    }
}

/// The reply with that body; `None` where the caller expects none.
pub(crate) fn reply<B: Serialize + DynamicType>(call: &Message, body: &B) -> Option<Message> {
    if !is_expected(call) {
        return None;
    }
    match Message::method_return(&call.header()).build(body) {
        Ok(message) if message.data().len() <= MAX_MESSAGE_BYTES => Some(message),
        Ok(_) | Err(zbus::Error::ExcessData) => {
            refusal(call, &CallError::too_large("the answer is larger than a D-Bus message may be (28 MiB)"))
        }
        Err(why) => {
            error!("a reply could not be built: {why}");
            refusal(call, &CallError::Core(crate::reconcile::CoreError::Failed("the answer could not be built".into())))
        }
    }
}

/// The refusal; `None` where the caller expects no reply.
pub(crate) fn refusal(call: &Message, why: &CallError) -> Option<Message> {
    if !is_expected(call) {
        return None;
    }
    let mut text = why.to_string();
    if text.len() > MAX_ERROR_BYTES {
        let end = (0..=MAX_ERROR_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n... (the rest is cut; Validate lists every fault)");
    }
    match Message::error(&call.header(), why.name()).build(&Text(&text)) {
        Ok(message) => Some(message),
        Err(why) => {
            error!("an error could not be built: {why}");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn call(flags: Flags) -> Message {
        Message::method_call("/", "X").with_flags(flags).build(&()).unwrap()
    }

    #[test]
    fn who_expects_no_reply_gets_none() {
        let quiet = call(Flags::NO_REPLY_EXPECTED);
        assert!(reply(&quiet, &()).is_none());
        assert!(refusal(&quiet, &CallError::NoMachineId).is_none());
        assert!(reply(&call(Flags::ALLOW_INTERACTIVE_AUTH), &()).is_some());
    }

    #[test]
    fn what_is_larger_than_a_message_becomes_an_error() {
        let answer = reply(&call(Flags::empty()), &"x".repeat(MAX_MESSAGE_BYTES)).unwrap();
        assert_eq!(answer.header().error_name().unwrap().as_str(), "org.opdbus.Error.TooLarge");
    }

    #[test]
    fn the_text_of_an_error_is_cut_between_characters() {
        // Three bytes each: the limit is within one.
        let why = CallError::InvalidArgs("\u{20ac}".repeat(MAX_ERROR_BYTES));
        let answer = refusal(&call(Flags::empty()), &why).unwrap();
        let body = answer.body();
        let text: &str = body.deserialize().unwrap();
        assert!(text.ends_with("Validate lists every fault)") && text.len() < MAX_ERROR_BYTES + 100);
    }
}
