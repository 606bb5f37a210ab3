//! What systemd keeps of the unit of a container that is no more: the limits that were set on it.

use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

use crate::plugins::machined::call::{CallError, PROPERTIES, SHORT, SYSTEMD, call};

/// systemd's object and interface.
const MANAGER: (&str, &str, &str) = (SYSTEMD, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");

/// Where `SetUnitProperties` writes.
const SET_BY_CALL: &str = "/etc/systemd/system.control/";

/// Where administrators write by hand.
const BY_HAND: &str = "/etc/systemd/system/";

/// Takes away what was set on the unit of that container by calls, so that the next of that name does not come to it.
/// What an administrator wrote by hand for it stays, and all with it: systemd takes both away or none.
pub(super) async fn forget_unit(connection: &Connection, id: &str) -> Result<bool, CallError> {
    let unit = format!("systemd-nspawn@{id}.service");
    let reply = call(connection, MANAGER, "LoadUnit", &unit.as_str(), SHORT).await?;
    let path: OwnedObjectPath = reply.body().deserialize()?;
    let wanted = ("org.freedesktop.systemd1.Unit", "DropInPaths");
    let reply = call(connection, (SYSTEMD, path.as_str(), PROPERTIES), "Get", &wanted, SHORT).await?;
    let value: OwnedVariant = reply.body().deserialize()?;
    let Variant::Array(paths) = &*value else { return Ok(false) };
    let paths: Vec<&str> = paths.inner().iter().filter_map(|path| <&str>::try_from(path).ok()).collect();
    if !paths.iter().any(|path| path.starts_with(SET_BY_CALL)) {
        return Ok(false);
    }
    let own = format!("{BY_HAND}{unit}");
    if paths.iter().any(|path| path.starts_with(&own)) {
        tracing::warn!(unit, "somebody's own drop-ins are there: what was set on the unit is left with them");
        return Ok(false);
    }
    call(connection, MANAGER, "RevertUnitFiles", &(&[unit.as_str()][..],), SHORT).await?;
    call(connection, MANAGER, "Reload", &(), SHORT * 4).await?;
    Ok(true)
}
