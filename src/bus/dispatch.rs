//! From a method call to what it asks for, or to its answer where the snapshot has it.

use zbus::{Message, names::InterfaceName};

use super::{
    error::CallError,
    interfaces::{Face, Interface, Object, is_standard},
    introspect::{self, INTROSPECTABLE, OBJECT_MANAGER, PEER, PROPERTIES},
    path::Node,
    reply,
    request::{Request, body},
    value::{Props, Text},
};
use crate::model::Snapshot;

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is answered; `None` where the caller expects no reply.
    Answered(Option<Message>),
    /// GetManagedObjects: answered when no smaller call waits.
    ManagedObjects,
    /// One of op-dbus's own methods.
    Own(Request),
}

/// Answers the call from the snapshot, or says what it asks for.
pub(crate) fn dispatch(snapshot: &Snapshot, machine_id: Option<&str>, call: &Message) -> Outcome {
    match route(snapshot, machine_id, call) {
        Ok(outcome) => outcome,
        Err(why) => Outcome::Answered(reply::refusal(call, &why)),
    }
}

fn route(snapshot: &Snapshot, machine_id: Option<&str>, call: &Message) -> Result<Outcome, CallError> {
    let header = call.header();
    // zbus refuses calls without path or member when it reads them.
    let path = header.path().map_or("", |path| path.as_str());
    let member = header.member().map_or("", |member| member.as_str());
    let interface = header.interface().map(InterfaceName::as_str);

    let node = Node::parse(path).filter(|node| node.exists(snapshot));
    if interface == Some(PEER) {
        // Of the peer, not of an object: answered on any path.
        return peer(machine_id, member, call);
    }
    let node = node.ok_or_else(|| CallError::UnknownObject(path.to_owned()))?;
    let object = Object::at(snapshot, &node);
    let own = || object.iter().flat_map(Object::faces).map(|face| face.interface());
    let all = || own().chain(introspect::standard(&node));

    let found = match interface {
        Some(name) => all()
            .find(|candidate| candidate.name == name)
            .ok_or_else(|| CallError::UnknownInterface { path: path.to_owned(), interface: name.to_owned() })?,
        // The header is optional: the first interface that has such a method.
        None => all().find(|candidate| candidate.method(member).is_some()).ok_or_else(|| CallError::UnknownMethod {
            what: format!("the object {path}"),
            method: member.to_owned(),
        })?,
    };
    check_arguments(found, member, call)?;
    match found.name {
        PEER => peer(machine_id, member, call),
        INTROSPECTABLE => Ok(Outcome::Answered(reply::reply(call, &Text(&introspect::describe(snapshot, &node))))),
        OBJECT_MANAGER => Ok(Outcome::ManagedObjects),
        PROPERTIES => properties(snapshot, &node, path, member, call).map(Outcome::Answered),
        name => Request::decode(snapshot, &node, name, member, call).map(Outcome::Own),
    }
}

/// Refuses a method that the interface does not have, and arguments that the method does not take.
fn check_arguments(interface: &Interface, member: &str, call: &Message) -> Result<(), CallError> {
    let method = interface.method(member).ok_or_else(|| CallError::UnknownMethod {
        what: format!("the interface {}", interface.name),
        method: member.to_owned(),
    })?;
    let given = call.body().signature().to_string_no_parens();
    if given == method.input {
        return Ok(());
    }
    let named = |signature: &str| if signature.is_empty() { "none".to_owned() } else { signature.to_owned() };
    Err(CallError::InvalidArgs(format!(
        "{member} takes arguments of signature {}, not {}",
        named(method.input),
        named(&given)
    )))
}

fn peer(machine_id: Option<&str>, member: &str, call: &Message) -> Result<Outcome, CallError> {
    for interface in introspect::standard(&Node::Top).filter(|interface| interface.name == PEER) {
        check_arguments(interface, member, call)?;
    }
    Ok(Outcome::Answered(if member == "Ping" {
        reply::reply(call, &())
    } else {
        reply::reply(call, &machine_id.ok_or(CallError::NoMachineId)?)
    }))
}

/// Get, GetAll and Set. An empty interface name means all interfaces of the object, as with other services.
fn properties(
    snapshot: &Snapshot,
    node: &Node,
    path: &str,
    member: &str,
    call: &Message,
) -> Result<Option<Message>, CallError> {
    let (interface, property) = match member {
        "GetAll" => (body::<String>(call)?, None),
        "Get" => body::<(String, String)>(call).map(|(interface, property)| (interface, Some(property)))?,
        _ => body::<(String, String, zbus::OwnedVariant)>(call)
            .map(|(interface, property, _)| (interface, Some(property)))?,
    };
    let object = Object::at(snapshot, node);
    let faces: Vec<_> = object
        .iter()
        .flat_map(Object::faces)
        .filter(|face| interface.is_empty() || face.interface().name == interface)
        .collect();
    if faces.is_empty() && !interface.is_empty() && !is_standard(node, &interface) {
        return Err(CallError::UnknownInterface { path: path.to_owned(), interface });
    }
    let all: Vec<_> = faces.iter().flat_map(Face::properties).collect();
    let Some(property) = property else {
        return Ok(reply::reply(call, &Props(&all)));
    };
    match all.iter().find(|(name, _)| *name == property) {
        Some(_) if member == "Set" => Err(CallError::ReadOnly(property)),
        Some((_, value)) => Ok(reply::reply(call, value)),
        None => {
            let what =
                if interface.is_empty() { format!("the object {path}") } else { format!("the interface {interface}") };
            Err(CallError::UnknownProperty { what, property })
        }
    }
}
