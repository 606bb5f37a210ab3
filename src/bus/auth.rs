//! Who calls, and whether he may.
//!
//! All of it runs on a connection of its own: the task that serves the tree must never wait for an answer on the
//! connection that it drains, and a question to a person may take minutes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};
use zbus::{Connection, Message, OwnedVariant, message::Flags, names::UniqueName, proxy::CacheProperties};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::{caller, error::CallError};
use crate::{model::OP_DBUS_UID, reconcile::Caller};

/// Who may call what is not free for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// On the system bus: root always, others as polkit says; without polkit on the machine, only root.
    Polkit,
    /// On a session bus: the user that op-dbus runs as.
    SameUser,
}

/// What a caller may be allowed: the polkit actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Documents and plans are shown.
    ReadDesiredState,
    /// The desired state is set.
    SetDesiredState,
    /// The host is brought back to it.
    Reconcile,
    /// Containers are started and stopped.
    ManageContainers,
}

impl Action {
    /// Polkit's id of it.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::ReadDesiredState => "org.opdbus.read-desired-state",
            Self::SetDesiredState => "org.opdbus.set-desired-state",
            Self::Reconcile => "org.opdbus.reconcile",
            Self::ManageContainers => "org.opdbus.manage-containers",
        }
    }
}

/// The bus driver answers at once; where it does not within this time, something is wrong with the bus.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// No more callers are remembered; each is dropped when it leaves the bus, but a call and that news come on different
/// connections, so that one may be remembered after it left.
const REMEMBERED_CALLERS: usize = 4096;

/// Answers who calls and whether he may.
#[derive(Debug)]
pub(crate) struct Authority {
    access: Access,
    connection: Connection,
    own_uid: u32,
    heavy_per_user: usize,
    known: Mutex<HashMap<String, Caller>>,
    heavy: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

impl Authority {
    /// An authority that asks over that connection, which must not be the one that serves.
    pub(crate) fn new(access: Access, connection: Connection, heavy_per_user: usize) -> Self {
        Self {
            access,
            connection,
            own_uid: rustix::process::geteuid().as_raw(),
            heavy_per_user,
            known: Mutex::default(),
            heavy: Mutex::default(),
        }
    }

    /// The connection over which the bus is asked.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Who sent that call. The bus stamps the sender, and a unique name never belongs to another process.
    pub(crate) async fn caller(&self, call: &Message) -> Result<Caller, CallError> {
        let header = call.header();
        let Some(sender) = header.sender().map(UniqueName::as_str) else {
            return Err(CallError::NotAuthorized("the bus did not say who calls".to_owned()));
        };
        if let Some(caller) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(sender) {
            return Ok(caller.clone());
        }
        let caller = self.ask(sender).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_CALLERS {
            known.clear();
        }
        known.insert(sender.to_owned(), caller.clone());
        Ok(caller)
    }

    async fn ask(&self, sender: &str) -> Result<Caller, CallError> {
        let unknown = |why: String| CallError::NotAuthorized(format!("the bus does not say who calls: {why}"));
        let name = (sender,);
        let call = self.connection.call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionCredentials",
            &name,
        );
        let reply = tokio::time::timeout(CREDENTIALS_TIMEOUT, call)
            .await
            .map_err(|_| unknown("it does not answer".to_owned()))?
            .map_err(|why| unknown(why.to_string()))?;
        let credentials: HashMap<String, OwnedVariant> =
            reply.body().deserialize().map_err(|why| unknown(why.to_string()))?;
        let number = |key: &str| credentials.get(key).and_then(|value| u32::try_from(&**value).ok());
        // The highest number stands for op-dbus itself, and is no user.
        let uid =
            number("UnixUserID").filter(|uid| *uid != OP_DBUS_UID).ok_or_else(|| unknown("no user".to_owned()))?;
        let pid = number("ProcessID");
        let unit = pid.and_then(|pid| match self.access {
            Access::Polkit => caller::system_unit(pid),
            Access::SameUser => caller::user_unit(pid),
        });
        Ok(Caller { uid, pid, unit })
    }

    /// That connection has left the bus.
    pub(crate) fn forget(&self, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Leave for one more heavy call of that user; it ends when dropped.
    pub(crate) fn admit_heavy(&self, uid: u32) -> Result<OwnedSemaphorePermit, CallError> {
        let mut users = self.heavy.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = users.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(self.heavy_per_user)));
        Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
            CallError::busy(format!(
                "user {uid} has {} documents to check or plan already; call again when one is answered",
                self.heavy_per_user
            ))
        })
    }

    /// Whether the caller may; the refusal otherwise.
    pub(crate) async fn authorize(&self, call: &Message, caller: &Caller, action: Action) -> Result<(), CallError> {
        let verdict = match self.access {
            Access::SameUser if caller.uid == self.own_uid => Ok(()),
            Access::SameUser => Err(CallError::NotAuthorized(format!(
                "user {} may not do this: this op-dbus serves user {} alone",
                caller.uid, self.own_uid
            ))),
            Access::Polkit if caller.uid == 0 => Ok(()),
            Access::Polkit => self.ask_polkit(call, caller, action).await,
        };
        if let Err(why) = &verdict {
            info!(
                uid = caller.uid,
                pid = caller.pid,
                unit = caller.unit.as_deref(),
                action = action.id(),
                "uid {} was refused {}: {why}",
                caller.uid,
                action.id()
            );
        }
        verdict
    }

    async fn ask_polkit(&self, call: &Message, caller: &Caller, action: Action) -> Result<(), CallError> {
        let id = action.id();
        let refused =
            |why: String| CallError::NotAuthorized(format!("user {} may not do this ({id}): {why}", caller.uid));
        let may_ask = call.primary_header().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let flags =
            if may_ask { CheckAuthorizationFlags::ALLOW_USER_INTERACTION } else { CheckAuthorizationFlags::empty() };
        let subject = Subject::new_for_message_header(&call.header()).map_err(|why| refused(why.to_string()))?;
        let polkit = AuthorityProxy::builder(&self.connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|why| refused(why.to_string()))?;
        match polkit.check_authorization(&subject, id, &HashMap::new(), flags, "").await {
            Ok(answer) if answer.is_authorized => Ok(()),
            Ok(answer) if answer.is_challenge && !may_ask => Err(CallError::InteractionRequired(format!(
                "polkit wants to ask somebody whether user {} may do this ({id}); allow it to (interactive authorization)",
                caller.uid
            ))),
            Ok(_) => Err(refused("polkit does not grant it".to_owned())),
            Err(why) if is_absent(&why) => {
                Err(refused("there is no polkit on this machine, so that only root may".to_owned()))
            }
            Err(why) => {
                warn!(action = id, "polkit could not be asked: {why}");
                Err(refused(format!("polkit could not be asked: {why}")))
            }
        }
    }
}

/// Whether the error says that nobody serves the name.
fn is_absent(why: &zbus::Error) -> bool {
    use zbus::fdo::Error as Fdo;
    match why {
        zbus::Error::FDO(why) => {
            matches!(**why, Fdo::ServiceUnknown(_) | Fdo::NameHasNoOwner(_) | Fdo::SpawnServiceNotFound(_))
        }
        _ => false,
    }
}
