//! Calls of op-dbus's own methods, decoded and checked.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use zbus::{Message, OwnedVariant, Type};

use super::{auth::Action, error::CallError, list::Query, options::Options, path::Node};
use crate::{
    model::{JobId, ResourceId, Snapshot},
    reconcile::{ApplyOptions, LifecycleVerb},
};

type Dict = HashMap<String, OwnedVariant>;

/// What a call asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// `Job.Wait`: answered from the snapshot, now or later.
    Wait(JobId),
    /// `State.ListResources`: answered from the snapshot.
    ListResources(Query),
    /// What the core is asked for.
    Core(CoreRequest),
}

/// What the core is asked for.
#[derive(Debug)]
pub(crate) enum CoreRequest {
    /// `State.SetDesiredState` and `SetDesiredStateWithOptions`.
    SetDesiredState {
        /// The document.
        document: String,
        /// Options.
        options: ApplyOptions,
    },
    /// `State.AdoptStateFile`.
    AdoptStateFile(ApplyOptions),
    /// `State.Validate`.
    Validate(String),
    /// `State.Plan`.
    Plan(String),
    /// `State.Reconcile`, `Resource.Reconcile`.
    Reconcile(Option<ResourceId>),
    /// `State.ListGenerations`.
    ListGenerations,
    /// `State.GetDesiredState`.
    GetDesiredState(u64),
    /// `State.ExportState`.
    ExportState {
        /// Plugins; none = all.
        plugins: Vec<String>,
        /// Every unit with an `[Install]`, too.
        all_units: bool,
    },
    /// `Job.Cancel`.
    Cancel(JobId),
    /// `Container.Start`, `Stop`, `Restart`.
    Lifecycle {
        /// Which.
        container: ResourceId,
        /// What.
        verb: LifecycleVerb,
        /// Although the document says otherwise.
        against_document: bool,
    },
}

impl CoreRequest {
    /// What the caller must be allowed; `None` = everybody is.
    pub(crate) const fn action(&self) -> Option<Action> {
        match self {
            Self::Validate(_) | Self::ListGenerations => None,
            Self::GetDesiredState(_) | Self::ExportState { .. } | Self::Plan(_) => Some(Action::ReadDesiredState),
            Self::SetDesiredState { .. } | Self::AdoptStateFile(_) | Self::Cancel(_) => Some(Action::SetDesiredState),
            Self::Reconcile(_) => Some(Action::Reconcile),
            Self::Lifecycle { .. } => Some(Action::ManageContainers),
        }
    }

    /// Whether a document must be read for it.
    pub(crate) const fn is_heavy(&self) -> bool {
        matches!(self, Self::SetDesiredState { .. } | Self::Validate(_) | Self::Plan(_))
    }

    /// Whether it changes something, so that its place among the caller's commands matters.
    pub(crate) const fn is_command(&self) -> bool {
        !matches!(self.action(), None | Some(Action::ReadDesiredState))
    }
}

impl Request {
    /// Decodes a call of a method of that node. The dispatch has checked that the interface has the method and that
    /// the signature is right.
    pub(crate) fn decode(
        snapshot: &Snapshot,
        node: &Node,
        interface: &str,
        method: &str,
        call: &Message,
    ) -> Result<Self, CallError> {
        Ok(Self::Core(match (interface, method, node) {
            ("org.opdbus.State", "SetDesiredState", _) => {
                CoreRequest::SetDesiredState { document: body(call)?, options: ApplyOptions::default() }
            }
            ("org.opdbus.State", "SetDesiredStateWithOptions", _) => {
                let (document, options): (String, Dict) = body(call)?;
                CoreRequest::SetDesiredState {
                    document,
                    options: apply_options("SetDesiredStateWithOptions", options)?,
                }
            }
            ("org.opdbus.State", "AdoptStateFile", _) => {
                CoreRequest::AdoptStateFile(apply_options("AdoptStateFile", body(call)?)?)
            }
            ("org.opdbus.State", "Validate", _) => {
                let (document, options): (String, Dict) = body(call)?;
                no_options("Validate", options)?;
                CoreRequest::Validate(document)
            }
            ("org.opdbus.State", "Plan", _) => {
                let (document, options): (String, Dict) = body(call)?;
                no_options("Plan", options)?;
                CoreRequest::Plan(document)
            }
            ("org.opdbus.State", "Reconcile", _) => {
                no_options("Reconcile", body(call)?)?;
                CoreRequest::Reconcile(None)
            }
            ("org.opdbus.State", "ListGenerations", _) => {
                no_options("ListGenerations", body(call)?)?;
                CoreRequest::ListGenerations
            }
            ("org.opdbus.State", "GetDesiredState", _) => {
                let (generation, options): (u64, Dict) = body(call)?;
                no_options("GetDesiredState", options)?;
                CoreRequest::GetDesiredState(generation)
            }
            ("org.opdbus.State", "ExportState", _) => {
                let (plugins, options): (Vec<String>, Dict) = body(call)?;
                let options = Options::new("ExportState", options, &["all-units"])?;
                if let Some(unknown) = plugins.iter().find(|name| !snapshot.plugins.contains_key(name.as_str())) {
                    let known: Vec<&str> = snapshot.plugins.keys().copied().collect();
                    return Err(CallError::not_found(format!("no plugin {unknown}; there are: {}", known.join(", "))));
                }
                CoreRequest::ExportState { plugins, all_units: options.flag("all-units")? }
            }
            ("org.opdbus.State", "ListResources", _) => {
                let (filter, after, limit, options): (Dict, String, u32, Dict) = body(call)?;
                no_options("ListResources", options)?;
                return Ok(Self::ListResources(Query::new(filter, &after, limit)?));
            }
            ("org.opdbus.Job", "Wait", Node::Job(id)) => return Ok(Self::Wait(*id)),
            ("org.opdbus.Job", "Cancel", Node::Job(id)) => {
                no_options("Cancel", body(call)?)?;
                CoreRequest::Cancel(*id)
            }
            ("org.opdbus.Resource", "Reconcile", Node::Resource(id)) => {
                no_options("Reconcile", body(call)?)?;
                CoreRequest::Reconcile(Some(id.clone()))
            }
            ("org.opdbus.Container", verb, Node::Resource(id)) => {
                let (name, verb) = match verb {
                    "Start" => ("Start", LifecycleVerb::Start),
                    "Stop" => ("Stop", LifecycleVerb::Stop),
                    "Restart" => ("Restart", LifecycleVerb::Restart),
                    _ => return Err(unknown(interface, method)),
                };
                let options = Options::new(name, body(call)?, &["override"])?;
                CoreRequest::Lifecycle { container: id.clone(), verb, against_document: options.flag("override")? }
            }
            _ => return Err(unknown(interface, method)),
        }))
    }
}

fn unknown(interface: &str, method: &str) -> CallError {
    CallError::UnknownMethod { what: format!("the interface {interface}"), method: method.to_owned() }
}

/// The arguments of a call.
pub(crate) fn body<T: DeserializeOwned + Type>(call: &Message) -> Result<T, CallError> {
    call.body().deserialize().map_err(|why| CallError::InvalidArgs(format!("the arguments cannot be read: {why}")))
}

fn no_options(what: &'static str, given: Dict) -> Result<(), CallError> {
    Options::new(what, given, &[]).map(drop)
}

fn apply_options(what: &'static str, given: Dict) -> Result<ApplyOptions, CallError> {
    let options = Options::new(what, given, &["expected-generation", "allow-empty"])?;
    Ok(ApplyOptions {
        expected_generation: options.u64("expected-generation")?,
        allow_empty: options.flag("allow-empty")?,
    })
}
