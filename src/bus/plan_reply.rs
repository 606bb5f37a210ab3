//! A plan as `State.Plan` answers it.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use zbus::{Signature, Type, as_variant, signature};

use super::value::{Path, Text, Wire};
use crate::{
    model::Difference,
    plan::{Plan, Step},
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
            (
                step.id,
                path,
                step.action.as_str(),
                Owned(step.summary()),
                Changes(&step.changes),
                &step.after,
                step.is_reversible(),
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
