//! What systemd-machined has, read whole: images, machines that run, settings files.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use zbus::{Connection, ObjectPath, OwnedVariant, Variant};

use super::{
    call::{CallError, MACHINE, MACHINED, PROPERTIES, SHORT, call, machined},
    settings::{Found, store::Store},
};

/// Machines that are read at a time. The system bus refuses calls beyond 128 of one connection.
const AT_ONCE: usize = 32;

/// systemd-machined's name of the host itself.
const HOST: &str = ".host";

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct World {
    /// systemd-machined is installed.
    pub(super) installed: bool,
    /// Images, by name.
    pub(super) images: BTreeMap<String, Image>,
    /// Containers that run, by name.
    pub(super) machines: BTreeMap<String, Machine>,
    /// Settings files, by name.
    pub(super) settings: BTreeMap<String, Found>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// `directory`, `subvolume`, `raw`, `block`.
    pub(super) kind: String,
    /// It cannot be written, only cloned.
    pub(super) read_only: bool,
}

/// A container that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Its unit.
    pub(super) unit: String,
    /// When it was started, CLOCK_REALTIME microseconds.
    pub(super) since_usec: u64,
}

type ListedImage<'a> = (&'a str, &'a str, bool, u64, u64, u64, ObjectPath<'a>);
type ListedMachine<'a> = (&'a str, &'a str, &'a str, ObjectPath<'a>);

/// Reads it. Without systemd-machined there is nothing.
pub(super) async fn read(connection: &Connection, store: &Arc<Store>) -> Result<World, CallError> {
    let images = match machined(connection, "ListImages", &(), SHORT).await {
        Err(CallError::NotInstalled(_)) => return Ok(World::default()),
        reply => images(&reply?)?,
    };
    let reply = machined(connection, "ListMachines", &(), SHORT).await?;
    let body = reply.body();
    let listed: Vec<ListedMachine<'_>> = body.deserialize()?;
    let containers: Vec<(String, String)> = listed
        .into_iter()
        .filter(|(name, class, ..)| *class == "container" && *name != HOST)
        .map(|(name, _, _, path)| (name.to_owned(), path.to_string()))
        .collect();
    let read = stream::iter(containers)
        .map(|(name, path)| async move { (name, machine(connection, &path).await) })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut machines = BTreeMap::new();
    for (name, machine) in read {
        match machine {
            Ok(machine) => drop(machines.insert(name, machine)),
            // It ended since it was listed, of which there will be a signal.
            Err(CallError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let store = Arc::clone(store);
    // Some small files, but of the disk's.
    let settings = tokio::task::spawn_blocking(move || store.read_all()).await.unwrap_or_default();
    Ok(World { installed: true, images, machines, settings })
}

/// The images of a list, without hidden ones: importd's downloads, and the host.
fn images(reply: &zbus::Message) -> Result<BTreeMap<String, Image>, CallError> {
    let body = reply.body();
    let listed: Vec<ListedImage<'_>> = body.deserialize()?;
    let shown = listed.into_iter().filter(|(name, ..)| !name.starts_with('.'));
    Ok(shown.map(|(name, kind, read_only, ..)| (name.to_owned(), Image { kind: kind.to_owned(), read_only })).collect())
}

async fn machine(connection: &Connection, path: &str) -> Result<Machine, CallError> {
    let reply = call(connection, (MACHINED, path, PROPERTIES), "GetAll", &MACHINE, SHORT).await?;
    let body = reply.body();
    let properties: HashMap<String, OwnedVariant> = body.deserialize()?;
    let property = |name: &str| properties.get(name).map(std::ops::Deref::deref);
    let unit = match property("Unit") {
        Some(Variant::Str(unit)) => unit.to_string(),
        _ => String::new(),
    };
    let since_usec = match property("Timestamp") {
        Some(Variant::U64(usec)) => *usec,
        _ => 0,
    };
    Ok(Machine { unit, since_usec })
}
