//! The task that follows: the bus comes and goes, the package database changes, PackageKit says that something else is
//! offered. It keeps packagekitd neither running nor from ending: that it ends when idle is how it is made.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::time::Instant;
use zbus::{MatchRule, Message, MessageStream, message::Type};

use super::{
    client::Client,
    database::{Database, Watch},
    keeper::Keeper,
    wire::{NAME, PATH},
};
use crate::model::BackendStatus;

/// The bus itself.
const DBUS: &str = "org.freedesktop.DBus";

/// The first wait before what is away is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// rpm writes its database in place, many times for one package: it is read once that has been still for so long.
const RPM_STILL: Duration = Duration::from_millis(500);

/// Follows for ever.
pub(super) async fn follow(keeper: Arc<Keeper>) {
    let mut wait = FIRST_WAIT;
    keeper.show(BackendStatus::Connecting, "connecting to the bus");
    loop {
        let why = match serve(&keeper, &mut wait).await {
            Ok(why) => why,
            Err(error) => error.to_string(),
        };
        keeper.state().client = None;
        keeper.show(BackendStatus::Unavailable, &why);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the bus cannot be used: {0}")]
    Bus(#[from] zbus::Error),
    #[error("the package database cannot be watched: {0}")]
    Database(#[from] std::io::Error),
}

/// The signals that matter.
struct Signals {
    packagekit: MessageStream,
    services: MessageStream,
}

impl Signals {
    async fn of(client: &Client) -> Result<Self, zbus::Error> {
        let packagekit = MatchRule::builder().msg_type(Type::Signal).sender(NAME).path(PATH).interface(NAME).build()?;
        let services = MatchRule::builder().msg_type(Type::Signal).sender(DBUS).interface(DBUS);
        let services = services.member("ActivatableServicesChanged").build()?;
        Ok(Self {
            packagekit: MessageStream::for_match_rule(packagekit, &client.connection, None).await?,
            services: MessageStream::for_match_rule(services, &client.connection, None).await?,
        })
    }
}

/// Follows on one connection, until that is lost; says why.
async fn serve(keeper: &Arc<Keeper>, wait: &mut Duration) -> Result<String, Lost> {
    let client = Client::connect(&keeper.config.bus).await?;
    let mut signals = Signals::of(&client).await?;
    let Some(database) = Database::find(&keeper.config.folders) else {
        // Image-based systems, and such as NixOS: PackageKit, if it is there, cannot install.
        client.connection.close().await?;
        *wait = LONGEST_WAIT;
        return Ok("there is no package database of dpkg's or rpm's on this machine".to_owned());
    };
    // The watch first: what changes while it is read is seen again.
    let mut watch = Watch::new(&database)?;
    let reads_itself = matches!(database, Database::Dpkg(_));
    {
        let mut state = keeper.state();
        state.mirror.scheme = database.scheme();
        state.database = Some(database);
        state.client = Some(client.clone());
    }
    keeper.reread().await;
    *wait = FIRST_WAIT;
    check(keeper, &client).await?;
    let (mut dirty, mut again) = (None, None);
    loop {
        tokio::select! {
            news = watch.next() => {
                let news = news?;
                if news.ended {
                    return Ok("the folder of the package database is gone".to_owned());
                }
                if reads_itself {
                    keeper.reread().await;
                    if news.unlocked && keeper.state().unanswered > 0 {
                        catch_up(keeper);
                    }
                } else {
                    dirty = Some(Instant::now() + RPM_STILL);
                }
            }
            () = reached(dirty) => {
                dirty = None;
                keeper.state().mirror.catalogue.stamp.clear();
                catch_up(keeper);
            }
            signal = signals.packagekit.next() => match signal.transpose()? {
                Some(message) => heard(keeper, &message),
                None => return Ok("the connection to the bus was lost".to_owned()),
            },
            signal = signals.services.next() => match signal.transpose()? {
                // Something was installed or removed that the bus can start: PackageKit, perhaps.
                Some(_) => check(keeper, &client).await?,
                None => return Ok("the connection to the bus was lost".to_owned()),
            },
            () = keeper.retry.notified() => {
                let doublings = keeper.state().unanswered.saturating_sub(1);
                let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT);
                again = Some(Instant::now() + wait);
            }
            () = reached(again) => {
                again = None;
                check(keeper, &client).await?;
            }
        }
    }
}

/// Waits until then, or for ever.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Has what is wanted asked for, while what comes is followed further.
fn catch_up(keeper: &Arc<Keeper>) {
    let keeper = keeper.clone();
    tokio::spawn(async move { keeper.catch_up().await });
}

/// Looks whether PackageKit is there, without starting it where nothing is wanted of it.
async fn check(keeper: &Arc<Keeper>, client: &Client) -> Result<(), zbus::Error> {
    let nothing_wanted = keeper.state().mirror.packages.is_empty();
    if !client.is_installed().await? {
        if !nothing_wanted {
            // Not every bus tells when it has learnt of a service.
            keeper.try_later();
        }
        keeper.show(BackendStatus::Unavailable, "PackageKit is not installed: nothing on the bus provides it");
        return Ok(());
    }
    if nothing_wanted || !keeper.is_unavailable() {
        // Its start takes a while, and nothing but what is offered hangs on it.
        keeper.show(BackendStatus::Connected, "");
    }
    if !nothing_wanted {
        catch_up(keeper);
    }
    Ok(())
}

/// A signal of PackageKit's.
fn heard(keeper: &Arc<Keeper>, message: &Message) {
    let header = message.header();
    let Some(member) = header.member() else { return };
    let declared = !keeper.state().mirror.packages.is_empty();
    match member.as_str() {
        // It runs: to ask it now keeps it from ending no longer than its own work does.
        "UpdatesChanged" | "RepoListChanged" if declared => {
            {
                let mut state = keeper.state();
                state.mirror.catalogue.stamp.clear();
                state.counted = false;
            }
            catch_up(keeper);
        }
        _ => {}
    }
}
