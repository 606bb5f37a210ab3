//! From actions and rows to the operations of one transaction. Pure.
//!
//! Each action edits a draft of the rows that it is about; what the drafts then differ in is written, with guards on
//! what was read. So steps of one batch see each other's work, and what holds already is not written.

mod draft;
mod edit;
mod operations;

use std::collections::BTreeMap;

use serde_json::Value;

use self::draft::Draft;
use super::{cache::Cache, mirror::Mirror};
use crate::{
    model::{Name, Reason},
    plan::Action,
};

/// What a transaction is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The rows.
    pub(super) cache: &'a Cache,
    /// The facts made from them.
    pub(super) mirror: &'a Mirror,
}

/// Why an action cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is, or is to be on, a bridge of old.
    #[error("{0} is a fake bridge, a VLAN of another bridge: op-dbus does not write it")]
    FakeBridge(Name),
    /// Something else has that name.
    #[error("the name {name} is taken by {by}")]
    NameTaken {
        /// The name.
        name: Name,
        /// Who has it.
        by: String,
    },
    /// There is no such bridge.
    #[error("there is no bridge {0}")]
    BridgeMissing(Name),
    /// It was there when the step was planned.
    #[error("{0} has vanished meanwhile")]
    Vanished(Name),
    /// A bridge's local port comes and goes with it.
    #[error("{0} is the local port of a bridge: it cannot be moved, made anew or removed by itself")]
    LocalPort(Name),
    /// The database was never initialised (`ovs-vsctl init` does that at the start of Open vSwitch).
    #[error("the database has no Open_vSwitch row yet")]
    NoRoot,
}

impl Refusal {
    /// The word for machines.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::FakeBridge(_) => Reason::FakeBridge,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::BridgeMissing(_) => Reason::BridgeMissing,
            Self::Vanished(_) => Reason::Missing,
            Self::LocalPort(_) | Self::NoRoot => Reason::Refused,
        }
    }

    /// Whether trying again may help, without anybody's doing.
    pub(super) const fn may_retry(&self) -> bool {
        matches!(self, Self::Vanished(_) | Self::NoRoot)
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    /// As it goes over the wire.
    pub(super) json: Value,
    /// The action (by its place in the list) on whose behalf; `None` = the transaction's own.
    pub(super) action: Option<usize>,
    /// A guard: it fails when the rows changed meanwhile.
    pub(super) guard: bool,
}

/// A transaction, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// For each action: whether it writes anything, or why it cannot.
    pub(super) actions: Vec<Result<bool, Refusal>>,
    /// The operations; none where nothing is to be written. The last but one selects `next_cfg`, the last is the
    /// comment.
    pub(super) operations: Vec<Operation>,
}

/// Prepares the transaction that makes these actions hold.
pub(super) fn prepare<'a>(
    view: View<'_>,
    machine_id: &str,
    comment: &str,
    actions: impl IntoIterator<Item = &'a Action>,
) -> Prepared {
    let (draft, mut actions) = draft_of(view, machine_id, &actions.into_iter().collect::<Vec<_>>());
    let mut operations = operations::write(&draft, view, comment);
    if !operations.is_empty() && view.cache.root().is_none() {
        operations.clear();
        for action in &mut actions {
            if *action == Ok(true) {
                *action = Err(Refusal::NoRoot);
            }
        }
    }
    Prepared { actions, operations }
}

/// The draft in which all these actions hold, but for those that are refused.
///
/// What a name is refused for may be an action that stands later in the list: a bond takes the devices of ports that
/// prune removes, or one that another bond gives up. So what was refused is tried again for as long as that helps; and
/// at last all of it at once, as two bonds exchange their members.
fn draft_of<'a>(view: View<'a>, machine_id: &'a str, actions: &[&Action]) -> (Draft<'a>, Vec<Result<bool, Refusal>>) {
    let mut draft = Draft::new(view, machine_id);
    let mut answers: Vec<_> = actions.iter().enumerate().map(|(at, action)| draft.edit(at, action)).collect();
    loop {
        let mut helped = false;
        for (at, (action, answer)) in actions.iter().zip(&mut answers).enumerate().filter(|(_, (_, a))| a.is_err()) {
            *answer = draft.edit(at, action);
            helped |= answer.is_ok();
        }
        if helped {
            continue;
        }
        let Some((exchanged, partners)) = exchange(&draft, actions, &answers) else { return (draft, answers) };
        draft = exchanged;
        for (at, wrote) in partners {
            if let Some(answer) = answers.get_mut(at) {
                *answer = Ok(wrote);
            }
        }
    }
}

/// Carries out, at once, the actions that were refused for names which they take from one another. Answers with the
/// draft, and with the places of these actions and whether each writes anything.
fn exchange<'a>(
    draft: &Draft<'a>,
    actions: &[&Action],
    answers: &[Result<bool, Refusal>],
) -> Option<(Draft<'a>, BTreeMap<usize, bool>)> {
    let refused = actions.iter().zip(answers).enumerate();
    let taken = refused.filter(|(_, (_, answer))| matches!(answer, Err(Refusal::NameTaken { .. })));
    let mut partners: Vec<(usize, &Action)> = taken.map(|(at, (action, _))| (at, *action)).collect();
    // One alone has nobody to exchange with.
    while partners.len() > 1 {
        let mut trial = draft.exchanging();
        let wrote: BTreeMap<usize, bool> =
            partners.iter().filter_map(|(at, action)| Some((*at, trial.edit(*at, action).ok()?))).collect();
        match partners.iter().rposition(|(at, action)| !wrote.contains_key(at) || trial.clashes(action)) {
            Some(outsider) => drop(partners.remove(outsider)),
            None => return Some((trial.exchanged(), wrote)),
        }
    }
    None
}

/// Whether the action's result is what the rows show.
pub(super) fn holds(view: View<'_>, machine_id: &str, action: &Action) -> bool {
    Draft::new(view, machine_id).edit(0, action) == Ok(false)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
