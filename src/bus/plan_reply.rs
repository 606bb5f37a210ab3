//! A plan as `State.Plan` answers it.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use zbus::{Signature, Type, as_variant, signature};

use super::value::{Path, Text, Wire};
use crate::{
    model::{Difference, Subject},
    plan::{Action, Plan, Step, UnitOp},
};

/// A plan: `a(uossa(svv)auba{sv})`.
#[derive(Debug)]
pub(crate) struct PlanReply<'a>(pub(crate) &'a Plan);

impl Type for PlanReply<'_> {
    const SIGNATURE: &'static Signature = &signature!("a(uossa(svv)auba{sv})");
}

impl Serialize for PlanReply<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.steps.iter().map(|step| {
            let path = Path::Subject(&step.subject);
            let summary = summary(step);
            (
                step.id,
                path,
                step.action.as_str(),
                Owned(summary),
                Changes(&step.changes),
                &step.after,
                is_reversible(&step.action),
                Extra(step),
            )
        }))
    }
}

/// A text made for the reply.
struct Owned(String);

impl Serialize for Owned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text(&self.0).serialize(serializer)
    }
}

/// Changes as field, from, to.
struct Changes<'a>(&'a [Difference]);

impl Serialize for Changes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0.iter().map(|change| (Text(&change.field), Wire(&change.observed), Wire(&change.desired))),
        )
    }
}

/// `reason`, `message` and `warnings`, where there are any.
struct Extra<'a>(&'a Step);

impl Serialize for Extra<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((reason, message)) = &self.0.blocked {
            map.serialize_entry("reason", &as_variant::Serialize(&reason.as_str()))?;
            map.serialize_entry("message", &as_variant::Serialize(&Text(message)))?;
        }
        if !self.0.warnings.is_empty() {
            let warnings: Vec<_> = self.0.warnings.iter().map(|text| Text(text)).collect();
            map.serialize_entry("warnings", &as_variant::Serialize(&warnings))?;
        }
        map.end()
    }
}

/// What the step does, for people: `start unit nginx.service`.
fn summary(step: &Step) -> String {
    let what = match &step.subject {
        Subject::State => "the desired state".to_owned(),
        Subject::Plugin(name) => (*name).to_owned(),
        Subject::Resource(id) => format!("{} {}", id.kind, id.name),
    };
    match (&step.action, &step.blocked) {
        (Action::Nothing, Some((_, message))) => format!("{what}: {message}"),
        (Action::ReloadSystemd, _) => "let systemd read its unit files again".to_owned(),
        (action, blocked) => {
            // The word names the kind again: `add-port` is `add` of a port.
            let word = action.as_str();
            let verb = match &step.subject {
                Subject::Resource(id) => {
                    word.strip_suffix(id.kind.as_str()).map_or(word, |verb| verb.trim_end_matches('-'))
                }
                _ => word,
            };
            let verb = verb.replace('-', " ");
            match blocked {
                Some((_, message)) => format!("{verb} {what}, blocked: {message}"),
                None => format!("{verb} {what}"),
            }
        }
    }
}

/// Whether what the step does could be undone: what ran before a restart does not come back, and a reload of systemd
/// has no opposite.
const fn is_reversible(action: &Action) -> bool {
    !matches!(action, Action::Unit(_, UnitOp::Restart) | Action::ReloadSystemd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Reason, ResourceId},
        plan::{BridgeOp, PortOp},
    };

    fn step(subject: ResourceId, action: Action, blocked: Option<(Reason, String)>) -> Step {
        Step { id: 1, subject: subject.into(), action, changes: vec![], after: vec![], blocked, warnings: vec![] }
    }

    #[test]
    fn summaries_read_as_sentences() {
        let port = ResourceId::port("p1");
        assert_eq!(summary(&step(port.clone(), Action::Port("p1".into(), PortOp::Delete), None)), "delete port p1");
        assert_eq!(
            summary(&step(ResourceId::unit("a.service"), Action::Unit("a.service".into(), UnitOp::Start), None)),
            "start unit a.service"
        );
        let blocked = Some((Reason::BridgeMissing, "there is no bridge br9".to_owned()));
        assert_eq!(summary(&step(port, Action::Nothing, blocked.clone())), "port p1: there is no bridge br9");
        assert_eq!(
            summary(&step(ResourceId::bridge("b"), Action::Bridge("b".into(), BridgeOp::Delete), blocked)),
            "delete bridge b, blocked: there is no bridge br9"
        );
    }
}
