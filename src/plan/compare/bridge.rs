//! A bridge against its row.

use super::{Differences, optional_text, shown_type, stored_type, want};
use crate::{
    desired::BridgeSpec,
    model::{BridgeFacts, Difference, Value},
};

/// The fields of a bridge that is there and shall be.
pub(in crate::plan) fn bridge_differences(spec: &BridgeSpec, facts: &BridgeFacts) -> Vec<Difference> {
    let mut out = Differences::default();
    let datapath = spec.datapath_type.as_deref().map(stored_type).map(shown_type);
    out.wanted("datapath_type", datapath, shown_type(stored_type(&facts.datapath_type)));
    out.wanted("fail_mode", want(&spec.fail_mode, |mode| mode.as_str().into()), optional_text(&facts.fail_mode));
    out.wanted("stp_enable", spec.stp_enable.map(Value::Bool), facts.stp_enable.into());
    out.wanted("rstp_enable", spec.rstp_enable.map(Value::Bool), facts.rstp_enable.into());
    out.wanted(
        "mcast_snooping_enable",
        spec.mcast_snooping_enable.map(Value::Bool),
        facts.mcast_snooping_enable.into(),
    );
    let controllers = spec.controllers.as_ref().map(|targets| Value::Strs(targets.iter().cloned().collect()));
    out.wanted("controllers", controllers, Value::Strs(facts.controllers.iter().cloned().collect()));
    out.map("external_ids", &spec.external_ids, &facts.external_ids);
    out.map("other_config", &spec.other_config, &facts.other_config);
    out.0
}
