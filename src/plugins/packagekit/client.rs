//! The life of a transaction: made, given its hints and its one method, listened to until it is finished.
//!
//! A transaction belongs to the connection that made it, and dies with packagekitd. PackageKit's own name may come and go:
//! it ends when it is idle, and the bus starts it again for the next call.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use zbus::{
    Connection, DBusError as _, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, fdo,
    message::Type,
};

use super::wire::{self, Code, Exit, Found, Info, NAME, PATH, TRANSACTION};
use crate::{model::Reason, plugins::systemd::BusChoice};

/// The bus itself.
const DBUS: &str = "org.freedesktop.DBus";

/// The standard interface of properties.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long a call may take that only begins something; the bus may have to start packagekitd for it, and gives it 25 s
/// on most machines.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long a transaction that changes packages may say nothing at all. A package's own script may work in silence, a
/// large initramfs on a slow disk for minutes.
const WORK_SILENCE: Duration = Duration::from_secs(30 * 60);

/// The same of one that only asks.
const ANSWER_SILENCE: Duration = Duration::from_secs(60);

/// The same of one that fetches lists: it tells each as it comes.
const FETCH_SILENCE: Duration = Duration::from_secs(5 * 60);

/// How long a transaction may not even begin before it is looked whether another is in its way: some backends have one at
/// a time, and PackageKit says nothing of that.
const BEGIN_LIMIT: Duration = Duration::from_secs(2);

/// How often a question is put again that was stopped for another's sake, or that packagekitd ended over.
const MOST_TRIES: u32 = 5;

/// The wait before such another try, times the number of the try.
const TRY_WAIT: Duration = Duration::from_millis(500);

/// Signals of one transaction that are kept until they are read: an answer with a signal for each of 10,000 packages fits.
const MOST_QUEUED: usize = 20_000;

/// Nothing is asked of anybody (debconf, changed configuration files, what apt-listchanges shows), nothing is put off
/// for others, and packages come many in a signal.
const HINTS: [&str; 3] = ["interactive=false", "background=false", "supports-plural-signals=true"];

/// Why a transaction did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TransactionError {
    /// PackageKit, or the bus, cannot be reached.
    #[error("{0}")]
    Away(String),
    /// packagekitd died in the middle; what it did is not known.
    #[error("packagekitd ended in the middle of its work")]
    Died,
    /// Somebody holds the package database.
    #[error("{0}")]
    Locked(String),
    /// Another transaction is under way, and was not waited for.
    #[error("another transaction of PackageKit's is under way")]
    Queued,
    /// It was stopped for another.
    #[error("it was stopped for another transaction")]
    Cancelled,
    /// It said nothing for too long.
    #[error("PackageKit said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// It failed.
    #[error("{message}")]
    Failed {
        /// Why, for machines.
        reason: Reason,
        /// Why, for people.
        message: String,
        /// Trying again may help, without anybody's doing.
        retry: bool,
    },
}

impl From<zbus::Error> for TransactionError {
    fn from(error: zbus::Error) -> Self {
        let away = |text: Option<&str>, name: &str| {
            Self::Away(text.filter(|text| !text.is_empty()).unwrap_or(name).to_owned())
        };
        match error {
            // Who was asked left the bus first: packagekitd may just have ended for being idle.
            zbus::Error::FDO(error) if matches!(*error, fdo::Error::NoReply(_)) => Self::Died,
            zbus::Error::FDO(error) => away(error.description(), &error.name()),
            zbus::Error::MethodError(name, text, _) => away(text.as_deref(), &name),
            error => Self::Away(error.to_string()),
        }
    }
}

/// What a transaction is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call<'a> {
    /// Find packages by name or id.
    Resolve(&'a [String], u64),
    /// List updates.
    Updates,
    /// Fetch the lists of repositories anew.
    Refresh,
    /// Install, or put other versions in the place of those that are there.
    Install(&'a [String], u64),
    /// Put newer versions in the place of those that are there.
    Update(&'a [String], u64),
    /// Remove, with all that depends on them: whoever calls must know what that is.
    Remove(&'a [String], u64),
}

/// How far a transaction is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    /// Share that is done, 0 to 1; NaN = not known.
    pub(super) share: f64,
    /// What it does, for people; empty = nothing said.
    pub(super) doing: String,
    /// It waits for the package database.
    pub(super) locked: bool,
}

/// What a transaction told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Packages.
    pub(super) packages: Vec<Found>,
    /// What must be started again: for each, the package's name and what.
    pub(super) restarts: Vec<(String, &'static str)>,
}

/// What PackageKit says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct About {
    /// Its version.
    pub(super) version: String,
    /// Its backend: apt, dnf, zypp, nix, ...
    pub(super) backend: String,
    /// It can install packages.
    pub(super) installs: bool,
}

/// The way to PackageKit. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) connection: Connection,
    /// One transaction at a time: PackageKit's backends do not take more, and a second would wait in silence.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Client {
    /// Connects to the bus.
    pub(super) async fn connect(bus: &BusChoice) -> Result<Self, zbus::Error> {
        let builder = match bus {
            BusChoice::System => zbus::connection::Builder::system(),
            BusChoice::Session => zbus::connection::Builder::session(),
            BusChoice::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = builder.method_timeout(CALL_LIMIT).build().await?;
        Ok(Self { connection, turn: Arc::default() })
    }

    /// Whether anything provides PackageKit: it runs, or the bus could start it. Starts nothing.
    pub(super) async fn is_installed(&self) -> Result<bool, zbus::Error> {
        for member in ["ListNames", "ListActivatableNames"] {
            let reply =
                self.connection.call_method(Some(DBUS), "/org/freedesktop/DBus", Some(DBUS), member, &()).await?;
            let body = reply.body();
            let names: Vec<&str> = body.deserialize()?;
            if names.contains(&NAME) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What PackageKit says of itself; starts it.
    pub(super) async fn about(&self) -> Result<About, TransactionError> {
        let get =
            || async { Ok(self.connection.call_method(Some(NAME), PATH, Some(PROPERTIES), "GetAll", &NAME).await?) };
        let reply = again(get).await?;
        let properties: std::collections::HashMap<String, OwnedVariant> =
            reply.body().deserialize().map_err(|error| unreadable(&error))?;
        let number = |name: &str| properties.get(name).and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
        let roles = properties.get("Roles").and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        let backend = properties.get("BackendName").and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default();
        Ok(About {
            version: format!("{}.{}.{}", number("VersionMajor"), number("VersionMinor"), number("VersionMicro")),
            backend: backend.to_owned(),
            installs: roles & wire::ROLE_INSTALL != 0,
        })
    }

    /// Seconds since the lists were last fetched by PackageKit; `None` = never.
    pub(super) async fn refreshed_ago(&self) -> Result<Option<u32>, TransactionError> {
        let (member, role) = ("GetTimeSinceAction", wire::ROLE_REFRESH_CACHE);
        let get = || async { Ok(self.connection.call_method(Some(NAME), PATH, Some(NAME), member, &role).await?) };
        let reply = again(get).await?;
        let seconds: u32 = reply.body().deserialize().map_err(|error| unreadable(&error))?;
        Ok(Some(seconds).filter(|seconds| *seconds != u32::MAX))
    }

    /// Runs a transaction that changes nothing, again where it was stopped for another's sake.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub(super) async fn ask(&self, call: Call<'_>) -> Result<Told, TransactionError> {
        again(|| self.run(call, |_| {})).await
    }

    /// Runs one transaction to its end.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub(super) async fn run(
        &self,
        call: Call<'_>,
        progress: impl FnMut(&Progress) + Send,
    ) -> Result<Told, TransactionError> {
        let _turn = self.turn.lock().await;
        let result = self.run_alone(call, progress).await;
        let (what, count) = call.shown();
        match &result {
            Ok(told) => tracing::debug!(what, count, packages = told.packages.len(), "PackageKit: {what}"),
            Err(error) => tracing::debug!(what, count, %error, "PackageKit: {what} failed: {error}"),
        }
        result
    }

    async fn run_alone(
        &self,
        call: Call<'_>,
        progress: impl FnMut(&Progress) + Send,
    ) -> Result<Told, TransactionError> {
        // The match first: a death between the call and the match would be missed.
        let owners = MatchRule::builder().msg_type(Type::Signal).sender(DBUS).interface(DBUS);
        let owners = owners.member("NameOwnerChanged").arg(0, NAME).build()?;
        let mut owners = MessageStream::for_match_rule(owners, &self.connection, None).await?;
        let reply = self.connection.call_method(Some(NAME), PATH, Some(NAME), "CreateTransaction", &()).await?;
        let owner = reply.header().sender().map(ToString::to_string).unwrap_or_default();
        let path: OwnedObjectPath = reply.body().deserialize().map_err(|error| unreadable(&error))?;
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(owner.as_str()).path(path.as_str()).build()?;
        let queue = NonZeroUsize::new(MOST_QUEUED);
        let mut signals = MessageStream::for_match_rule(rule, &self.connection, queue).await?;
        let transaction = Transaction { connection: &self.connection, owner: &owner, path: &path };
        transaction.call("SetHints", &HINTS.as_slice()).await?;
        let mut listener = Listener::new(progress);
        let mut call_made = std::pin::pin!(transaction.begin(call).fuse());
        let mut heard = Instant::now();
        loop {
            let limit = if listener.begun { call.patience() } else { BEGIN_LIMIT };
            tokio::select! {
                biased;
                message = signals.next() => {
                    let message = message.ok_or_else(lost)??;
                    heard = Instant::now();
                    if let Some(exit) = listener.take(&message) {
                        return listener.outcome(exit);
                    }
                }
                result = &mut call_made => result?,
                change = owners.next() => {
                    let body = change.ok_or_else(lost)??.body();
                    let gone = body.deserialize::<(&str, &str, &str)>().is_ok_and(|(_, old, _)| old == owner);
                    if gone {
                        return Err(TransactionError::Died);
                    }
                }
                () = tokio::time::sleep(limit) => {
                    if !listener.begun && self.is_another_under_way(&path).await? {
                        // Else it would wait there still when it is asked for again.
                        let _ = transaction.call("Cancel", &()).await;
                        return Err(TransactionError::Queued);
                    }
                    if heard.elapsed() >= call.patience() {
                        return Err(TransactionError::Silent(call.patience()));
                    }
                }
            }
        }
    }

    /// Whether PackageKit has other transactions than that one.
    async fn is_another_under_way(&self, own: &OwnedObjectPath) -> Result<bool, TransactionError> {
        let reply = self.connection.call_method(Some(NAME), PATH, Some(NAME), "GetTransactionList", &()).await?;
        let body = reply.body();
        let all: Vec<OwnedObjectPath> = body.deserialize().map_err(|error| unreadable(&error))?;
        Ok(all.iter().any(|path| path != own))
    }
}

/// Asks something that changes nothing, again where PackageKit did not get to its end.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, TransactionError>
where
    F: Future<Output = Result<T, TransactionError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match ask().await {
            Err(TransactionError::Died | TransactionError::Cancelled | TransactionError::Locked(_))
                if tries < MOST_TRIES => {}
            result => return result,
        }
        tokio::time::sleep(TRY_WAIT * tries).await;
    }
}

/// A transaction's object.
struct Transaction<'a> {
    connection: &'a Connection,
    /// Who has it, and nobody that is started in its place.
    owner: &'a str,
    path: &'a OwnedObjectPath,
}

impl Transaction<'_> {
    async fn begin(&self, call: Call<'_>) -> Result<(), TransactionError> {
        match call {
            Call::Resolve(names, filter) => self.call("Resolve", &(filter, names)).await,
            Call::Updates => self.call("GetUpdates", &wire::FILTER_NONE).await,
            Call::Refresh => self.call("RefreshCache", &false).await,
            Call::Install(ids, flags) => self.call("InstallPackages", &(flags, ids)).await,
            Call::Update(ids, flags) => self.call("UpdatePackages", &(flags, ids)).await,
            // With what depends on them (apt does so whatever is said), without what nobody needs then.
            Call::Remove(ids, flags) => self.call("RemovePackages", &(flags, ids, true, false)).await,
        }
    }

    async fn call<B: serde::Serialize + DynamicType>(&self, member: &str, body: &B) -> Result<(), TransactionError> {
        match self.connection.call_method(Some(self.owner), self.path, Some(TRANSACTION), member, body).await {
            Ok(_) => Ok(()),
            // That unique name is nobody's any more.
            Err(zbus::Error::FDO(error))
                if matches!(*error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)) =>
            {
                Err(TransactionError::Died)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Call<'_> {
    /// How long it may say nothing.
    const fn patience(&self) -> Duration {
        match self {
            Self::Resolve(..) | Self::Updates => ANSWER_SILENCE,
            Self::Refresh => FETCH_SILENCE,
            Self::Install(_, flags) | Self::Remove(_, flags) if *flags & wire::FLAG_SIMULATE != 0 => ANSWER_SILENCE,
            Self::Install(..) | Self::Update(..) | Self::Remove(..) => WORK_SILENCE,
        }
    }

    /// For the log: what, and how many packages.
    const fn shown(&self) -> (&'static str, usize) {
        match self {
            Self::Resolve(names, _) => ("Resolve", names.len()),
            Self::Updates => ("GetUpdates", 0),
            Self::Refresh => ("RefreshCache", 0),
            Self::Install(ids, flags) if *flags & wire::FLAG_SIMULATE != 0 => ("InstallPackages, simulated", ids.len()),
            Self::Install(ids, _) => ("InstallPackages", ids.len()),
            Self::Update(ids, _) => ("UpdatePackages", ids.len()),
            Self::Remove(ids, flags) if *flags & wire::FLAG_SIMULATE != 0 => ("RemovePackages, simulated", ids.len()),
            Self::Remove(ids, _) => ("RemovePackages", ids.len()),
        }
    }
}

fn lost() -> TransactionError {
    TransactionError::Away("the connection to the bus was lost".to_owned())
}

fn unreadable(error: &zbus::Error) -> TransactionError {
    TransactionError::Away(format!("PackageKit's answer cannot be read: {error}"))
}

/// Takes a transaction's signals in.
struct Listener<F> {
    /// The backend is at it.
    begun: bool,
    told: Told,
    error: Option<(u32, String)>,
    at: Progress,
    progress: F,
}

impl<F: FnMut(&Progress)> Listener<F> {
    const fn new(progress: F) -> Self {
        let told = Told { packages: Vec::new(), restarts: Vec::new() };
        let at = Progress { share: f64::NAN, doing: String::new(), locked: false };
        Self { begun: false, told, error: None, at, progress }
    }

    /// Takes one in; how it ended, if it is that. What cannot be read is another version's, and passed over.
    fn take(&mut self, message: &Message) -> Option<Exit> {
        let header = message.header();
        let body = message.body();
        match header.member()?.as_str() {
            "Package" => {
                let (info, id, summary): (u32, &str, &str) = body.deserialize().ok()?;
                self.package(info, id, summary);
            }
            "Packages" => {
                let packages: Vec<(u32, &str, &str)> = body.deserialize().ok()?;
                for (info, id, summary) in packages {
                    self.package(info, id, summary);
                }
            }
            "ErrorCode" => {
                let error: (u32, String) = body.deserialize().ok()?;
                // The first is the cause.
                self.error.get_or_insert(error);
            }
            "RequireRestart" => {
                let (what, id): (u32, &str) = body.deserialize().ok()?;
                let what = wire::restart(what);
                if let Some(found) = Found::read(0, id, "").filter(|_| !what.is_empty()) {
                    self.told.restarts.push((found.name, what));
                }
            }
            "PropertiesChanged" => self.properties(&body)?,
            "Finished" => {
                let (exit, _): (u32, u32) = body.deserialize().ok()?;
                return Some(exit.into());
            }
            // Destroyed without having finished.
            "Destroy" => return Some(Exit::Failed),
            _ => {}
        }
        None
    }

    fn package(&mut self, info: u32, id: &str, summary: &str) {
        let Some(found) = Found::read(info, id, summary) else { return };
        let doing = match found.info {
            Info::Downloading => "fetching",
            Info::Installing => "installing",
            Info::Removing => "removing",
            _ => "",
        };
        if !doing.is_empty() {
            let doing = format!("{doing} {} {}", found.name, found.version);
            if self.at.doing != doing {
                self.at.doing = doing;
                (self.progress)(&self.at);
            }
        }
        self.told.packages.push(found);
    }

    fn properties(&mut self, body: &zbus::message::Body) -> Option<()> {
        let (_, changed, _): (&str, std::collections::HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().ok()?;
        let number = |name: &str| changed.get(name).and_then(|value| u32::try_from(value).ok());
        let before = self.at.clone();
        if let Some(status) = number("Status") {
            self.begun |= !wire::STATUS_NOT_BEGUN.contains(&status);
            self.at.locked = status == wire::STATUS_WAITING_FOR_LOCK;
        }
        if let Some(percentage) = number("Percentage").filter(|percentage| *percentage < wire::PERCENTAGE_UNKNOWN) {
            self.at.share = f64::from(percentage) / 100.0;
        }
        // Not `!=`: what is not a number is not equal to itself.
        let same = before.share.to_bits() == self.at.share.to_bits() && before.locked == self.at.locked;
        if !same {
            (self.progress)(&self.at);
        }
        Some(())
    }

    fn outcome(self, exit: Exit) -> Result<Told, TransactionError> {
        let Self { told, error, .. } = self;
        if exit == Exit::Success {
            return Ok(told);
        }
        let Some((number, text)) = error else {
            return Err(if exit == Exit::Cancelled {
                TransactionError::Cancelled
            } else {
                let message = "PackageKit ended the transaction without saying why".to_owned();
                TransactionError::Failed { reason: Reason::Refused, message, retry: true }
            });
        };
        let message = one_line(&text);
        Err(match number.into() {
            Code::Lock => TransactionError::Locked(message),
            Code::Cancelled => TransactionError::Cancelled,
            // apt says in its text alone that the disk is full.
            Code::Reason(..) if is_full(&message) => {
                TransactionError::Failed { reason: Reason::NoSpace, message, retry: true }
            }
            Code::Reason(reason, retry) => TransactionError::Failed { reason, message, retry },
        })
    }
}

/// What the system's own texts say of a full disk.
pub(super) fn is_full(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("enough free space")
}

/// PackageKit's texts have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_while_it_is_asked_is_not_away() {
        let error = |error: fdo::Error| TransactionError::from(zbus::Error::FDO(Box::new(error)));
        assert_eq!(error(fdo::Error::NoReply("Remote peer disconnected".to_owned())), TransactionError::Died);
        let away = |text: &str| TransactionError::Away(text.to_owned());
        assert_eq!(error(fdo::Error::ServiceUnknown("not activatable".to_owned())), away("not activatable"));
        let nameless = error(fdo::Error::ServiceUnknown(String::new()));
        assert_eq!(nameless, away("org.freedesktop.DBus.Error.ServiceUnknown"));
    }
}
