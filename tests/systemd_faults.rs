//! The systemd plugin against what a real systemd will not do on demand: hang, vanish, answer with nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "common/fake_systemd.rs"]
mod fake;

use std::time::Duration;

use fake::{Bus, Fake, Starts};
use op_dbus::{
    model::{BackendStatus, Reason, StepState},
    plan::UnitOp,
    plugins::{Plugin as _, systemd::SystemdConfig},
};
use op_dbus_testkit::systemd::{Watched, interest, step};
use zbus::connection::Builder;

const A: &str = "a.service";

fn status(seen: &Watched) -> Option<BackendStatus> {
    seen.backend.as_ref().map(|backend| backend.status)
}

/// A plugin that does not wait for long.
fn hasty(bus: &Bus) -> Watched {
    Watched::start(SystemdConfig { call_limit: Duration::from_millis(300), hold_down: Duration::ZERO, ..bus.config() })
}

#[tokio::test]
async fn a_bus_without_systemd_is_waited_on() {
    let bus = Bus::start();
    let mut seen = Watched::start(bus.config());
    seen.until(|seen| status(seen) == Some(BackendStatus::Unavailable)).await;
    seen.plugin.watch(interest(&[(A, &[])])).await.expect("a watch does not wait for a backend that is away");
    let looked = seen.plugin.look(interest(&[(A, &[])])).await;
    assert!(looked.is_err_and(|error| error.may_retry()));
    let ended = seen.step(A, UnitOp::Start).await;
    assert_eq!((ended.state, ended.reason, ended.retry), (StepState::Failed, Reason::BackendAway, true), "{ended:?}");

    let _fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    seen.connected().await;
    assert_eq!(seen.unit(A).active_state, "active");
    assert_eq!(seen.backend.as_ref().unwrap().version, "252.fake");
}

#[tokio::test]
async fn systemd_may_vanish_and_come_back() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    let mut seen = Watched::start(bus.config());
    seen.connected().await;
    seen.watch(&[A]).await;
    fake.vanish().await;
    seen.until(|seen| status(seen) == Some(BackendStatus::Connecting)).await;
    assert_eq!(seen.unit(A).active_state, "active", "the last known values stay");
    seen.forget();
    let fake = Fake::start(&bus, &[(A, "failed")], Starts::EndFirst).await;
    seen.connected().await;
    assert_eq!(seen.told, ["reset", "backend connected"]);
    assert_eq!(seen.unit(A).active_state, "failed");
    assert_eq!(seen.backend.as_ref().unwrap().reconnects, 1);
    fake.set(A, "active").await;
    seen.until_unit(A, |unit| unit.active_state == "active").await;
}

#[tokio::test]
async fn the_bus_may_end_and_come_back() {
    let mut bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    let mut seen = Watched::start(bus.config());
    seen.connected().await;
    seen.watch(&[A]).await;
    bus.stop();
    drop(fake);
    seen.until(|seen| status(seen) == Some(BackendStatus::Unavailable)).await;
    bus.restart();
    let _fake = Fake::start(&bus, &[(A, "inactive")], Starts::EndFirst).await;
    seen.connected().await;
    assert_eq!(seen.unit(A).active_state, "inactive");
}

#[tokio::test]
async fn a_hung_systemd_is_away_until_it_answers() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    let mut seen = hasty(&bus);
    seen.connected().await;
    seen.watch(&[A]).await;
    fake.mute(true);
    // Something to ask about, which is not answered.
    fake.signal("UnitFilesChanged", &()).await;
    seen.until(|seen| status(seen) != Some(BackendStatus::Connected)).await;
    fake.mute(false);
    seen.connected().await;
    fake.set(A, "failed").await;
    seen.until_unit(A, |unit| unit.active_state == "failed").await;
}

#[tokio::test]
async fn a_start_that_is_not_answered_fails_alone() {
    let bus = Bus::start();
    let _fake = Fake::start(&bus, &[(A, "inactive")], Starts::Never).await;
    let mut seen = hasty(&bus);
    seen.connected().await;
    seen.watch(&[A]).await;
    let ended = seen.step(A, UnitOp::Start).await;
    assert_eq!((ended.state, ended.reason, ended.retry), (StepState::Failed, Reason::TimedOut, true), "{ended:?}");
    assert!(seen.is_connected());
}

#[tokio::test]
async fn systemd_may_vanish_under_a_start() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "inactive")], Starts::Vanish).await;
    let mut seen = Watched::start(bus.config());
    seen.connected().await;
    seen.watch(&[A]).await;
    let work = op_dbus::plugins::Work {
        job: 1,
        steps: vec![step(1, op_dbus::plan::Action::Unit(A.into(), UnitOp::Start), &[]).into()],
    };
    let applied = tokio::spawn(seen.plugin.apply(work));
    while fake.calls("StartUnit") == 0 {
        tokio::task::yield_now().await;
    }
    fake.vanish().await;
    applied.await.unwrap();
    seen.drain();
    let ended = &seen.ended[&1];
    assert_eq!((ended.state, ended.reason, ended.retry), (StepState::Failed, Reason::BackendAway, true), "{ended:?}");
}

#[tokio::test]
async fn the_end_of_a_job_may_come_before_its_reply() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "inactive")], Starts::EndFirst).await;
    let mut seen = hasty(&bus);
    seen.connected().await;
    seen.watch(&[A]).await;
    let ended = seen.step(A, UnitOp::Start).await;
    assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
    let again = seen.step(A, UnitOp::Start).await;
    assert_eq!((again.state, again.wrote), (StepState::Done, false), "{again:?}");
    assert_eq!(fake.calls("StartUnit"), 1);
}

#[tokio::test]
async fn signals_of_others_are_not_believed() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    let mut seen = Watched::start(bus.config());
    seen.connected().await;
    seen.watch(&[A]).await;
    let stranger = Builder::address(bus.address.as_str()).build().await.unwrap();
    let signal = fake::changed(A, "failed");
    stranger.send(&signal).await.unwrap();
    // Straight to the plugin, past all match rules: its name is one of the few on this bus.
    for n in 0..20 {
        let header = signal.header();
        let forged =
            zbus::Message::signal(header.path().unwrap(), header.interface().unwrap(), header.member().unwrap())
                .destination(format!(":1.{n}").as_str())
                .build(&signal.body().deserialize::<zbus::Structure<'_>>().unwrap())
                .unwrap();
        stranger.send(&forged).await.unwrap();
    }
    // Once the bus answers the stranger, it has passed on all that he sent; and what the plugin reads after that, it
    // reads after the forgeries.
    stranger
        .call_method(Some("org.freedesktop.DBus"), "/org/freedesktop/DBus", Some("org.freedesktop.DBus"), "GetId", &())
        .await
        .unwrap();
    seen.forget();
    fake.signal("UnitFilesChanged", &()).await;
    seen.plugin.look(interest(&[("b.service", &[])])).await.unwrap();
    seen.drain();
    assert_eq!(seen.unit(A).active_state, "active");
    assert!(seen.told.is_empty(), "{:?}", seen.told);
    assert_eq!(fake.calls("GetUnit"), 2, "a.service and b.service are read once each");
}

#[tokio::test]
async fn nonsense_is_no_unit() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "active")], Starts::EndFirst).await;
    let mut seen = Watched::start(bus.config());
    seen.connected().await;
    fake.garble();
    seen.watch(&[A, "b@.service", "../x", ""]).await;
    assert_eq!(seen.unit(A).load_state, "not-found");
    fake.signal("UnitNew", &"not a unit and a path").await;
    fake.signal("Reloading", &"perhaps").await;
    fake.signal("JobRemoved", &()).await;
    fake.set(A, "inactive").await;
    let looked = seen.plugin.look(interest(&[(A, &["CPUWeight"])])).await.unwrap();
    assert_eq!(looked.len(), 1);
    assert!(seen.is_connected());
}

#[tokio::test]
async fn a_flood_of_signals_stops_no_call() {
    let bus = Bus::start();
    let fake = Fake::start(&bus, &[(A, "inactive")], Starts::EndFirst).await;
    let mut seen = Watched::start(SystemdConfig { hold_down: Duration::ZERO, ..bus.config() });
    seen.connected().await;
    seen.watch(&[A]).await;
    seen.forget();
    for n in 0..5000_u32 {
        let unit = format!("flood-{n}.service");
        let path = zbus::ObjectPath::try_from(fake::unit_path(&unit)).unwrap();
        fake.signal("UnitNew", &(&unit, &path)).await;
        fake.signal("UnitRemoved", &(&unit, &path)).await;
    }
    let ended = seen.step(A, UnitOp::Start).await;
    assert_eq!(ended.state, StepState::Done, "{ended:?}");
    assert!(
        seen.told.iter().all(|told| told.starts_with("changes a.service") || told.starts_with("step")),
        "{:?}",
        seen.told
    );
    assert_eq!(fake.calls("ListUnits"), 1, "units of no concern are not asked for");
}
