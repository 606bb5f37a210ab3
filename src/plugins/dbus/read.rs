//! Reads one object: who answers for it, where it is, what types it has, what values.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::Value as Json;
use zbus::{Message, OwnedObjectPath, OwnedVariant, Variant};

use super::{
    call::{CallError, PROPERTIES, To, driver, method, typed_method},
    describe::{Described, describe},
    link::Link,
    rules::rules,
};
use crate::{
    desired::{Call, Lookup, ObjectPlace, ObjectSpec, Reference, Source},
    model::{ObjectFacts, Reason, TypedValue},
    plan::matches_call,
    typed::{canonical, from_variant, single},
};

/// Objects that a look-up chooses from, at the most: each is asked.
const MOST_CANDIDATES: usize = 256;

/// What a reading needs.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) link: Link,
    pub(super) limit: Duration,
    pub(super) never_call: Arc<Vec<String>>,
}

/// An object as it was read.
#[derive(Debug)]
pub(super) struct Read {
    /// The unique name of who answers for the service.
    pub(super) owner: Option<String>,
    pub(super) facts: ObjectFacts,
}

/// Why it could not be read.
pub(super) type Unread = (Reason, String);

/// The interfaces of objects that were asked already.
type Seen = HashMap<String, BTreeMap<String, Described>>;

fn unread(error: &CallError) -> Unread {
    (error.reason(), error.to_string())
}

impl Reader {
    /// Reads the object; `follow`: its signals are asked for first, so that nothing that comes after is missed.
    pub(super) async fn read(&self, spec: &ObjectSpec, follow: bool) -> Result<Read, Unread> {
        if follow {
            for rule in rules(spec) {
                self.link.listen(&rule, self.limit).await.map_err(|error| unread(&error))?;
            }
        }
        let service = &spec.service;
        if !spec.activate && self.owner(service).await?.is_none() {
            let why =
                format!("nobody answers for {service}; say \"activate\": true to have it started to be looked at");
            return Err((Reason::ServiceAway, why));
        }
        let mut facts =
            ObjectFacts { service: service.clone(), interface: spec.interface.clone(), ..ObjectFacts::default() };
        let mut seen = Seen::new();
        for (name, lookup) in &spec.lookups {
            if let Some(path) = self.look_up(spec, lookup, &mut seen).await? {
                facts.lookups.insert(name.clone(), path);
            }
        }
        facts.path = match &spec.path {
            ObjectPlace::Path(path) => path.clone(),
            ObjectPlace::Lookup(name) => facts.lookups.get(name).cloned().unwrap_or_default(),
        };
        let described = if facts.path.is_empty() {
            None
        } else {
            self.described(spec, &facts.path, &mut seen).await?.get(&spec.interface).cloned()
        };
        facts.exists = described.is_some();
        facts.drift_visible = true;
        if let Some(described) = &described {
            facts.property_types.clone_from(&described.properties);
            let signalled = |name: &String| described.readable.get(name).copied().unwrap_or(true);
            facts.drift_visible =
                spec.properties.keys().all(signalled) && (spec.exists.is_none() || described.has_signals);
        }
        self.methods(spec, &mut facts, &mut seen).await?;
        if let Some(exists) = &spec.exists {
            facts.exists = facts.exists && self.ask(spec, exists, &facts).await?;
        }
        if facts.exists {
            self.values(spec, &mut facts).await?;
        }
        Ok(Read { owner: self.owner(service).await?, facts })
    }

    /// The unique name of who answers for that service.
    async fn owner(&self, service: &str) -> Result<Option<String>, Unread> {
        let message = driver("GetNameOwner", service).map_err(|error| unread(&error))?;
        match self.link.call(message, self.limit).await {
            Ok(reply) => Ok(reply.body().deserialize().ok()),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(unread(&error)),
        }
    }

    async fn call(&self, message: Result<Message, CallError>) -> Result<Message, CallError> {
        self.link.call(message?, self.limit).await
    }

    /// The interfaces of an object; none where there is no such object.
    async fn described<'s>(
        &self,
        spec: &ObjectSpec,
        path: &str,
        seen: &'s mut Seen,
    ) -> Result<&'s BTreeMap<String, Described>, Unread> {
        if !seen.contains_key(path) {
            let to = to(spec, path);
            let interfaces = match self.call(method(to, "org.freedesktop.DBus.Introspectable", "Introspect", &())).await
            {
                Ok(reply) => {
                    let body = reply.body();
                    let xml: &str = body.deserialize().map_err(|error| unread(&error.into()))?;
                    describe(xml).map_err(|why| (Reason::WrongType, format!("{path} of {}: {why}", spec.service)))?
                }
                Err(error) if error.is_nothing_there() => BTreeMap::new(),
                Err(error) => return Err(unread(&error)),
            };
            seen.insert(path.to_owned(), interfaces);
        }
        Ok(seen.entry(path.to_owned()).or_default())
    }

    /// Signatures of all methods that the document names.
    async fn methods(&self, spec: &ObjectSpec, facts: &mut ObjectFacts, seen: &mut Seen) -> Result<(), Unread> {
        let wanted: BTreeSet<(String, String, String)> = spec
            .calls()
            .filter_map(|call| Some((place(spec, call, facts)?, interface(spec, call), call.method.clone())))
            .collect();
        for key in wanted {
            let all = self.described(spec, &key.0, seen).await?;
            if let Some(signature) = all.get(&key.1).and_then(|described| described.methods.get(&key.2)) {
                facts.methods.insert(key, signature.clone());
            }
        }
        Ok(())
    }

    /// Whether a method that only reads may be called.
    fn may_call(&self, spec: &ObjectSpec, interface: &str, method: &str) -> Result<(), Unread> {
        let never = |pattern: &String| matches_call(pattern, &spec.service, interface, method);
        if !spec.allow_protected && self.never_call.iter().any(never) {
            let why = format!("{interface}.{method} of {} is never called", spec.service);
            return Err((Reason::Protected, why));
        }
        Ok(())
    }

    /// The path that a look-up finds.
    async fn look_up(&self, spec: &ObjectSpec, lookup: &Lookup, seen: &mut Seen) -> Result<Option<String>, Unread> {
        let to = to(spec, &lookup.path);
        let found = match &lookup.source {
            Source::Property(property) => {
                let got = self.call(method(to, PROPERTIES, "Get", &(&lookup.interface, property))).await;
                got.and_then(|reply| {
                    let value: OwnedVariant = reply.body().deserialize()?;
                    Ok(paths_of(&value))
                })
            }
            Source::Method { method, args } => {
                self.may_call(spec, &lookup.interface, method)?;
                let all = self.described(spec, &lookup.path, seen).await?;
                let known = all.get(&lookup.interface).and_then(|described| described.methods.get(method)).cloned();
                let Some(signature) = known else { return Ok(None) };
                let args: Vec<Json> = args.iter().map(unescaped).collect();
                let got = self.call(typed_method(to, &lookup.interface, method, &args, &signature)).await;
                got.map(|reply| paths_in(&reply))
            }
        };
        let found = match found {
            Ok(found) => found,
            // Whatever else it answers, it does not find it.
            Err(CallError::Refused { .. }) if !found.as_ref().is_err_and(CallError::is_absence) => return Ok(None),
            Err(error) => return Err(unread(&error)),
        };
        let Some(matching) = &lookup.matching else { return Ok(found.into_iter().find(|path| path != "/")) };
        for path in found.into_iter().take(MOST_CANDIDATES) {
            let to = self::to(spec, &path);
            let got = self.call(method(to, PROPERTIES, "Get", &(&matching.interface, &matching.property))).await;
            let value: Option<OwnedVariant> = got.ok().and_then(|reply| reply.body().deserialize().ok());
            let is_it = value.is_some_and(|value| {
                let wanted = canonical(&matching.value, value.value_signature());
                from_variant(&value).ok().zip(wanted.ok()).is_some_and(|(is, wanted)| is == wanted)
            });
            if is_it {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// What the method that tells whether the object exists answers.
    async fn ask(&self, spec: &ObjectSpec, call: &Call, facts: &ObjectFacts) -> Result<bool, Unread> {
        let interface = interface(spec, call);
        self.may_call(spec, &interface, &call.method)?;
        let Some(path) = place(spec, call, facts) else { return Ok(false) };
        let key = (path, interface, call.method.clone());
        let Some(signature) = facts.methods.get(&key) else {
            let why = format!("{} has no method {}.{} at {}", spec.service, key.1, key.2, key.0);
            return Err((Reason::WrongType, why));
        };
        let args: Vec<Json> = call.args.iter().map(|arg| plain(arg, facts)).collect();
        let reply = self.call(typed_method(to(spec, &key.0), &key.1, &key.2, &args, signature)).await;
        match reply {
            Ok(reply) => reply.body().deserialize().map_err(|_| {
                (Reason::WrongType, format!("{}.{} of {} does not answer true or false", key.1, key.2, spec.service))
            }),
            Err(error) => Err(unread(&error)),
        }
    }

    /// The values of what is declared, and of what calls repeat.
    async fn values(&self, spec: &ObjectSpec, facts: &mut ObjectFacts) -> Result<(), Unread> {
        let wanted: BTreeSet<&str> = spec.properties.keys().map(String::as_str).chain(spec.repeated()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let path = facts.path.clone();
        let to = to(spec, &path);
        let all = self.call(method(to, PROPERTIES, "GetAll", &spec.interface)).await;
        let all: Option<HashMap<String, OwnedVariant>> = match all {
            Ok(reply) => reply.body().deserialize().ok(),
            // One property that cannot be had spoils all of them, with some services.
            Err(CallError::Refused { .. }) if !all.as_ref().is_err_and(CallError::is_absence) => None,
            Err(error) => return Err(unread(&error)),
        };
        for name in wanted {
            if let Some(all) = &all {
                take(facts, name, all.get(name).map(|value| &**value));
                continue;
            }
            let got = self.call(method(to, PROPERTIES, "Get", &(&spec.interface, name))).await;
            let value = match got {
                Ok(reply) => reply.body().deserialize::<OwnedVariant>().ok(),
                Err(CallError::Refused { .. }) if !got.as_ref().is_err_and(CallError::is_absence) => None,
                Err(error) => return Err(unread(&error)),
            };
            take(facts, name, value.as_deref());
        }
        Ok(())
    }
}

/// Takes a property's value in; `None` where the service does not tell it.
pub(super) fn take(facts: &mut ObjectFacts, name: &str, value: Option<&Variant<'_>>) {
    let Some(known) = facts.property_types.get(name) else { return };
    let typed = value.map(|value| {
        let signature = value.value_signature().to_string();
        if single(&signature).is_none() || signature != known.signature {
            let said = &known.signature;
            return Err(format!("the service says that its D-Bus type is {said}, and shows one of type {signature}"));
        }
        let value = from_variant(value).map_err(|error| error.to_string())?;
        Ok(TypedValue { signature, value })
    });
    facts.odd.remove(name);
    match typed {
        Some(Ok(typed)) => {
            facts.properties.insert(name.to_owned(), typed);
            return;
        }
        Some(Err(odd)) => drop(facts.odd.insert(name.to_owned(), odd)),
        None => drop(facts.odd.insert(name.to_owned(), "the service does not tell its value".to_owned())),
    }
    facts.properties.remove(name);
}

fn to<'a>(spec: &'a ObjectSpec, path: &'a str) -> To<'a> {
    To { service: &spec.service, path, activate: spec.activate }
}

/// Where a call goes; `None` where that was not found.
fn place(spec: &ObjectSpec, call: &Call, facts: &ObjectFacts) -> Option<String> {
    let path = match call.path.as_ref().unwrap_or(&spec.path) {
        ObjectPlace::Path(path) => path.clone(),
        ObjectPlace::Lookup(name) => facts.lookups.get(name)?.clone(),
    };
    Some(path)
}

fn interface(spec: &ObjectSpec, call: &Call) -> String {
    call.interface.as_ref().unwrap_or(&spec.interface).clone()
}

/// An argument of a look-up: it refers to nothing.
fn unescaped(value: &Json) -> Json {
    plain(value, &ObjectFacts::default())
}

/// An argument of a call that reads: it refers to paths at the most.
fn plain(value: &Json, facts: &ObjectFacts) -> Json {
    match value {
        Json::String(text) => match Reference::read(text) {
            Some(Reference::Object) => facts.path.as_str().into(),
            Some(Reference::Lookup(name)) => facts.lookups.get(name).cloned().unwrap_or_default().into(),
            Some(Reference::Escaped(text)) => text.into(),
            _ => value.clone(),
        },
        Json::Array(items) => items.iter().map(|item| plain(item, facts)).collect(),
        Json::Object(fields) => {
            Json::Object(fields.iter().map(|(key, item)| (key.clone(), plain(item, facts))).collect())
        }
        other => other.clone(),
    }
}

/// The object paths that a value holds: one, or a list of them.
fn paths_of(value: &Variant<'_>) -> Vec<String> {
    match value {
        Variant::ObjectPath(path) => vec![path.to_string()],
        Variant::Array(items) => items.inner().iter().flat_map(|item| paths_of(item)).collect(),
        _ => Vec::new(),
    }
}

/// The object paths that a method answers with: one, or a list of them.
pub(super) fn paths_in(reply: &Message) -> Vec<String> {
    let body = reply.body();
    if let Ok(path) = body.deserialize::<OwnedObjectPath>() {
        return vec![path.to_string()];
    }
    let all: Vec<OwnedObjectPath> = body.deserialize().unwrap_or_default();
    all.iter().map(ToString::to_string).collect()
}
