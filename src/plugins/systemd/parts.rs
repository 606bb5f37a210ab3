//! What systemd says of one unit, property by property, and the facts that follow from it. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;
use zbus::{OwnedVariant, Variant, wire::Structure};

use super::properties::{is_settable, to_json};

/// Properties by name, as `GetAll` and `PropertiesChanged` carry them.
pub(super) type Properties = HashMap<String, OwnedVariant>;

/// The interface that every unit has.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Bound of a start or stop where the unit has none of its own, microseconds: systemd's built-in
/// DefaultTimeoutStartSec.
pub(super) const DEFAULT_TIMEOUT_USEC: u64 = 90_000_000;

/// Where systemd keeps units made at run time, whose files go with them.
const TRANSIENT_FOLDER: &str = "/run/systemd/transient/";

/// The interface of a unit's kind; `None` where that has no properties (targets).
pub(super) fn kind_interface(unit: &str) -> Option<&'static str> {
    let (_, suffix) = unit.rsplit_once('.')?;
    Some(match suffix {
        "service" => "org.freedesktop.systemd1.Service",
        "socket" => "org.freedesktop.systemd1.Socket",
        "mount" => "org.freedesktop.systemd1.Mount",
        "automount" => "org.freedesktop.systemd1.Automount",
        "swap" => "org.freedesktop.systemd1.Swap",
        "timer" => "org.freedesktop.systemd1.Timer",
        "path" => "org.freedesktop.systemd1.Path",
        "slice" => "org.freedesktop.systemd1.Slice",
        "scope" => "org.freedesktop.systemd1.Scope",
        _ => return None,
    })
}

/// Whether units of that kind start others.
pub(super) fn is_trigger(unit: &str) -> bool {
    [".socket", ".timer", ".path", ".automount"].iter().any(|suffix| unit.ends_with(suffix))
}

/// A declared property as systemd shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// Its D-Bus type.
    pub(super) signature: String,
    /// Its value.
    pub(super) value: Json,
}

/// Values of the declared properties that an interface has.
pub(super) type Values = BTreeMap<String, Shown>;

/// What the interface `Unit` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct UnitPart {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) load_state: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    pub(super) fragment_path: String,
    pub(super) active_enter_usec: u64,
    pub(super) need_daemon_reload: bool,
    pub(super) job: Option<(u32, String)>,
    pub(super) triggered_by: Vec<String>,
    pub(super) values: Values,
    condition_unmet: bool,
    condition_usec: u64,
    assert_unmet: bool,
    assert_usec: u64,
}

impl UnitPart {
    /// Of a unit that systemd will not even name.
    pub(super) fn missing(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            load_state: "not-found".to_owned(),
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            ..Self::default()
        }
    }

    /// Takes over what changed.
    pub(super) fn take(&mut self, properties: &Properties, wanted: &BTreeSet<String>) {
        text(properties, "Id", &mut self.id);
        text(properties, "Description", &mut self.description);
        text(properties, "LoadState", &mut self.load_state);
        text(properties, "ActiveState", &mut self.active_state);
        text(properties, "SubState", &mut self.sub_state);
        text(properties, "FragmentPath", &mut self.fragment_path);
        number(properties, "ActiveEnterTimestamp", &mut self.active_enter_usec);
        flag(properties, "NeedDaemonReload", &mut self.need_daemon_reload);
        number(properties, "ConditionTimestamp", &mut self.condition_usec);
        number(properties, "AssertTimestamp", &mut self.assert_usec);
        let mut met = !self.condition_unmet;
        flag(properties, "ConditionResult", &mut met);
        self.condition_unmet = !met;
        let mut met = !self.assert_unmet;
        flag(properties, "AssertResult", &mut met);
        self.assert_unmet = !met;
        if let Some(Variant::Structure(job)) = properties.get("Job").map(std::ops::Deref::deref) {
            self.job = job_of(job);
        }
        if let Some(Variant::Array(units)) = properties.get("TriggeredBy").map(std::ops::Deref::deref) {
            self.triggered_by =
                units.inner().iter().filter_map(|unit| <&str>::try_from(unit).ok()).map(str::to_owned).collect();
        }
        take_values(&mut self.values, properties, wanted);
    }

    /// The last start was skipped. A result without its time is of a unit that was never tried.
    pub(super) fn start_was_skipped(&self) -> bool {
        (self.condition_unmet && self.condition_usec > 0) || (self.assert_unmet && self.assert_usec > 0)
    }

    /// systemd let go of it: what it was is as a unit that is not loaded is.
    pub(super) fn unload(&mut self) {
        "inactive".clone_into(&mut self.active_state);
        "dead".clone_into(&mut self.sub_state);
        self.job = None;
        self.triggered_by.clear();
        if self.fragment_path.starts_with(TRANSIENT_FOLDER) {
            "not-found".clone_into(&mut self.load_state);
        }
    }

    /// Remembers of a unit that was unloaded what systemd forgot of it.
    pub(super) fn remember(&mut self, before: &Self) {
        if self.active_enter_usec == 0 {
            self.active_enter_usec = before.active_enter_usec;
        }
    }

    /// Whether a change of that property matters here.
    pub(super) fn cares_for(property: &str) -> bool {
        const NAMES: [&str; 14] = [
            "Id",
            "Description",
            "LoadState",
            "ActiveState",
            "SubState",
            "FragmentPath",
            "ActiveEnterTimestamp",
            "NeedDaemonReload",
            "ConditionTimestamp",
            "ConditionResult",
            "AssertTimestamp",
            "AssertResult",
            "Job",
            "TriggeredBy",
        ];
        NAMES.contains(&property)
    }
}

/// What the interface of the unit's kind says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KindPart {
    pub(super) oneshot: bool,
    pub(super) result: String,
    pub(super) restarts: u32,
    pub(super) start_timeout_usec: u64,
    pub(super) stop_timeout_usec: u64,
    pub(super) exit: Option<Exit>,
    pub(super) values: Values,
    exit_usec: u64,
    exit_code: i32,
    exit_status: i32,
}

impl Default for KindPart {
    fn default() -> Self {
        Self {
            oneshot: false,
            result: "success".to_owned(),
            restarts: 0,
            start_timeout_usec: DEFAULT_TIMEOUT_USEC,
            stop_timeout_usec: DEFAULT_TIMEOUT_USEC,
            exit: None,
            values: Values::new(),
            exit_usec: 0,
            exit_code: 0,
            exit_status: 0,
        }
    }
}

impl KindPart {
    /// Takes over what changed.
    pub(super) fn take(&mut self, interface: &str, properties: &Properties, wanted: &BTreeSet<String>) {
        if interface == "org.freedesktop.systemd1.Service" {
            let mut kind = String::new();
            text(properties, "Type", &mut kind);
            if !kind.is_empty() {
                self.oneshot = kind == "oneshot";
            }
            text(properties, "Result", &mut self.result);
            small(properties, "NRestarts", &mut self.restarts);
            number(properties, "TimeoutStartUSec", &mut self.start_timeout_usec);
            number(properties, "TimeoutStopUSec", &mut self.stop_timeout_usec);
            number(properties, "ExecMainExitTimestamp", &mut self.exit_usec);
            signed(properties, "ExecMainCode", &mut self.exit_code);
            signed(properties, "ExecMainStatus", &mut self.exit_status);
            self.exit = (self.exit_usec > 0)
                .then_some(Exit { by_signal: self.exit_code > CLD_EXITED, status: self.exit_status });
        } else {
            // Sockets, mounts and swaps have one bound for both ways.
            number(properties, "TimeoutUSec", &mut self.start_timeout_usec);
            number(properties, "TimeoutUSec", &mut self.stop_timeout_usec);
        }
        take_values(&mut self.values, properties, wanted);
    }

    /// Remembers of a unit that was unloaded what systemd forgot of it: that a oneshot ran well in this boot.
    pub(super) fn remember(&mut self, before: &Self) {
        if self.exit_usec == 0 {
            self.result.clone_from(&before.result);
            self.exit = before.exit;
            self.exit_usec = before.exit_usec;
            self.exit_code = before.exit_code;
            self.exit_status = before.exit_status;
        }
    }

    /// Ran to its end with success in this boot.
    pub(super) fn oneshot_succeeded(&self) -> bool {
        self.oneshot && self.result == "success" && self.exit_usec > 0
    }

    /// Whether a change of that property matters here.
    pub(super) fn cares_for(property: &str) -> bool {
        const NAMES: [&str; 8] = [
            "Type",
            "Result",
            "NRestarts",
            "TimeoutStartUSec",
            "TimeoutStopUSec",
            "ExecMainExitTimestamp",
            "ExecMainCode",
            "ExecMainStatus",
        ];
        NAMES.contains(&property)
    }
}

/// `si_code` of a process that ended by itself (waitid(2)); those above are signals.
const CLD_EXITED: i32 = 1;

/// How a service's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    /// By a signal, and not by itself.
    pub(super) by_signal: bool,
    /// Its exit status, or the signal's number.
    pub(super) status: i32,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.by_signal { "signal" } else { "exit status" };
        write!(f, "{word} {}", self.status)
    }
}

/// The D-Bus types of those declared properties that can be set live.
pub(super) fn settable_signatures<'a>(
    unit: &str,
    values: impl Iterator<Item = (&'a String, &'a Shown)>,
) -> BTreeMap<String, String> {
    values
        .filter(|(name, _)| is_settable(unit, name))
        .map(|(name, shown)| (name.clone(), shown.signature.clone()))
        .collect()
}

fn take_values(values: &mut Values, properties: &Properties, wanted: &BTreeSet<String>) {
    for name in wanted {
        if let Some(value) = properties.get(name)
            && let Some(json) = to_json(value)
        {
            let signature = value.value_signature().to_string();
            values.insert(name.clone(), Shown { signature, value: json });
        }
    }
}

/// Number and path of the job in the queue; number 0 = none.
fn job_of(job: &Structure<'_>) -> Option<(u32, String)> {
    match job.fields() {
        [Variant::U32(id), Variant::ObjectPath(path)] if *id > 0 => Some((*id, path.to_string())),
        _ => None,
    }
}

fn text(properties: &Properties, name: &str, into: &mut String) {
    if let Some(Variant::Str(value)) = properties.get(name).map(std::ops::Deref::deref) {
        value.as_str().clone_into(into);
    }
}

fn flag(properties: &Properties, name: &str, into: &mut bool) {
    if let Some(Variant::Bool(value)) = properties.get(name).map(std::ops::Deref::deref) {
        *into = *value;
    }
}

fn number(properties: &Properties, name: &str, into: &mut u64) {
    if let Some(Variant::U64(value)) = properties.get(name).map(std::ops::Deref::deref) {
        *into = *value;
    }
}

fn small(properties: &Properties, name: &str, into: &mut u32) {
    if let Some(Variant::U32(value)) = properties.get(name).map(std::ops::Deref::deref) {
        *into = *value;
    }
}

fn signed(properties: &Properties, name: &str, into: &mut i32) {
    if let Some(Variant::I32(value)) = properties.get(name).map(std::ops::Deref::deref) {
        *into = *value;
    }
}
