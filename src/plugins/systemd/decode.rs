//! Messages into what the mirror takes, and its questions into messages.

use zbus::{Message, ObjectPath, OwnedVariant, message::Type};

use super::{
    call::{CallError, MANAGER, PROPERTIES, manager, method},
    entry::unit_path,
    exchange::{Answer, Question, Signal},
    parts::{Properties, UNIT},
};

/// The unit whose start means that the machine, or the session, is going down.
const SHUTDOWN: &str = "shutdown.target";

/// What systemd told by itself.
#[derive(Debug)]
pub(super) enum Told {
    /// To the mirror.
    Mirror(Signal),
    /// A job left the queue.
    JobRemoved(JobEnd),
    /// The machine is going down (`true`), or does not any more.
    ShuttingDown(bool),
}

/// A job that left the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobEnd {
    /// Its path.
    pub(super) path: String,
    /// Its unit.
    pub(super) unit: String,
    /// done, canceled, timeout, failed, dependency, skipped, ...
    pub(super) result: String,
}

/// Reads a signal of systemd's; `None` of one that is of no concern, or is not what its name says. Changes of all
/// units come here, and only those of paths that are cared for are worth reading.
pub(super) fn signal(message: &Message, cares_for: impl FnOnce(&str) -> bool) -> Option<Told> {
    if message.message_type() != Type::Signal {
        return None;
    }
    let header = message.header();
    let body = message.body();
    let interface = header.interface()?.as_str();
    let member = header.member()?.as_str();
    if interface == PROPERTIES && member == "PropertiesChanged" {
        if !cares_for(header.path()?) {
            return None;
        }
        let (interface, properties, invalidated): (String, Properties, Vec<String>) = body.deserialize().ok()?;
        let path = header.path()?.to_string();
        return Some(Told::Mirror(Signal::Changed { path, interface, properties, invalidated }));
    }
    if interface != MANAGER {
        return None;
    }
    Some(match member {
        "UnitNew" | "UnitRemoved" => {
            let (id, _): (String, ObjectPath<'_>) = body.deserialize().ok()?;
            Told::Mirror(if member == "UnitNew" { Signal::UnitNew(id) } else { Signal::UnitRemoved(id) })
        }
        "UnitFilesChanged" => Told::Mirror(Signal::FilesChanged),
        "Reloading" => Told::Mirror(Signal::Reloading(body.deserialize().ok()?)),
        "JobNew" => {
            let (_, _, unit): (u32, ObjectPath<'_>, &str) = body.deserialize().ok()?;
            return (unit == SHUTDOWN).then_some(Told::ShuttingDown(true));
        }
        "JobRemoved" => {
            let (_, path, unit, result): (u32, ObjectPath<'_>, &str, &str) = body.deserialize().ok()?;
            if unit == SHUTDOWN && result != "done" {
                return Some(Told::ShuttingDown(false));
            }
            Told::JobRemoved(JobEnd { path: path.to_string(), unit: unit.to_owned(), result: result.to_owned() })
        }
        _ => return None,
    })
}

/// The call that puts a question.
pub(super) fn ask(question: &Question) -> Result<Message, CallError> {
    match question {
        Question::Units => manager("ListUnits", &()),
        Question::Loaded(_, unit) | Question::TriggerLoaded(unit) => manager("GetUnit", &unit),
        Question::All(_, _, path, interface) => method(path, PROPERTIES, "GetAll", interface),
        Question::FileState(_, unit) => manager("GetUnitFileState", &unit),
        Question::JobKind(_, _, path) => method(path, PROPERTIES, "Get", &("org.freedesktop.systemd1.Job", "JobType")),
        Question::TriggerState(unit) => method(&unit_path(unit), PROPERTIES, "Get", &(UNIT, "ActiveState")),
    }
}

/// What the reply says. An error, and what is not as the method says, is a No.
pub(super) fn answer(question: &Question, reply: &Message) -> Answer {
    read(question, reply).unwrap_or(Answer::No)
}

type Listed<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, ObjectPath<'a>, u32, &'a str, ObjectPath<'a>);

fn read(question: &Question, reply: &Message) -> Option<Answer> {
    let body = reply.body();
    Some(match question {
        Question::Units => {
            let units: Vec<Listed<'_>> = body.deserialize().ok()?;
            Answer::Units(units.into_iter().map(|unit| unit.0.to_owned()).collect())
        }
        Question::Loaded(..) | Question::TriggerLoaded(_) => Answer::Yes,
        Question::All(..) => Answer::Properties(body.deserialize().ok()?),
        Question::FileState(..) => Answer::Word(body.deserialize().ok()?),
        Question::JobKind(..) | Question::TriggerState(_) => {
            let value: OwnedVariant = body.deserialize().ok()?;
            Answer::Word(String::try_from(value).ok()?)
        }
    })
}
