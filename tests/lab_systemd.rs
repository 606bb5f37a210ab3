//! The systemd plugin against a real systemd, with systemctl as the other client. Runs in the lab only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use op_dbus::{
    model::{Change, Reason, StepState},
    plan::{Action, UnitOp},
    plugins::{Plugin as _, systemd::SystemdConfig},
};
use op_dbus_testkit::systemd::{Watched, interest, step};

/// One at a time: a daemon-reload of one test is noise in another's.
static ALONE: Mutex<()> = Mutex::new(());

/// The lab, with units of its own that go with it.
struct Lab {
    _alone: MutexGuard<'static, ()>,
    units: Vec<&'static str>,
    files: Vec<PathBuf>,
}

/// The lab, unless this is left to it.
fn lab() -> Option<Lab> {
    if std::env::var_os("OPDBUS_LAB").is_none_or(|value| value != "1") {
        eprintln!("left to the lab: a real systemd");
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Lab { _alone: alone, units: Vec::new(), files: Vec::new() })
}

impl Lab {
    /// Installs a unit as a package does.
    fn unit(&mut self, name: &'static str, text: &str) {
        self.file(&format!("/usr/lib/systemd/system/{name}"), text);
        self.units.push(name);
        systemctl(&["daemon-reload"]);
    }

    fn file(&mut self, path: &str, text: &str) {
        fs::create_dir_all(PathBuf::from(path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.files.push(path.into());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for unit in &self.units {
            let _ = Command::new("systemctl").args(["--quiet", "unmask", unit]).output();
            let _ = Command::new("systemctl").args(["--quiet", "disable", "--now", unit]).output();
            let _ = Command::new("systemctl").args(["--quiet", "revert", unit]).output();
            let _ = Command::new("systemctl").args(["--quiet", "reset-failed", unit]).output();
        }
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        let _ = Command::new("systemctl").arg("daemon-reload").output();
    }
}

/// The other client.
fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "systemctl {arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn plugin() -> Watched {
    Watched::start(SystemdConfig {
        container_patterns: vec!["lab-container@*.service".to_owned()],
        ..SystemdConfig::system()
    })
}

const SLEEP: &str =
    "[Unit]\nDescription=sleeps\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

mod mirror {
    use super::*;

    #[tokio::test]
    async fn follows_start_stop_and_kill() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-a.service", SLEEP);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-a.service", "lab-missing.service"]).await;
        assert_eq!(seen.unit("lab-missing.service").load_state, "not-found");
        let facts = seen.unit("lab-a.service").clone();
        assert_eq!((facts.load_state.as_str(), facts.active_state.as_str()), ("loaded", "inactive"));
        assert_eq!((facts.id.as_str(), facts.description.as_str()), ("lab-a.service", "sleeps"));
        assert_eq!((facts.unit_file_state.as_str(), facts.unit_path.as_str()), ("disabled", ""));
        assert!(facts.has_install && facts.active_enter_usec == 0 && facts.job.is_none());
        assert_eq!(facts.start_timeout_usec, 90_000_000);

        systemctl(&["start", "lab-a.service"]);
        seen.until_unit("lab-a.service", |unit| unit.active_state == "active" && unit.job.is_none()).await;
        let facts = seen.unit("lab-a.service").clone();
        assert_eq!(facts.unit_path, "/org/freedesktop/systemd1/unit/lab_2da_2eservice");
        assert_eq!(facts.sub_state, "running");
        assert!(facts.active_enter_usec > 0);

        systemctl(&["kill", "--signal=KILL", "lab-a.service"]);
        seen.until_unit("lab-a.service", |unit| unit.active_state == "failed" && unit.result == "signal").await;

        systemctl(&["restart", "lab-a.service"]);
        seen.until_unit("lab-a.service", |unit| unit.active_state == "active" && unit.result == "success").await;
        systemctl(&["stop", "lab-a.service"]);
        seen.until_unit("lab-a.service", |unit| unit.active_state == "inactive" && unit.unit_path.is_empty()).await;
        assert_eq!(seen.unit("lab-a.service").load_state, "loaded");
    }

    #[tokio::test]
    async fn follows_what_is_enabled() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-b.service", SLEEP);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-b.service"]).await;
        systemctl(&["--no-reload", "enable", "lab-b.service"]);
        seen.until_unit("lab-b.service", |unit| unit.unit_file_state == "enabled" && unit.has_wants_link).await;
        fs::remove_file("/etc/systemd/system/multi-user.target.wants/lab-b.service").unwrap();
        seen.until_unit("lab-b.service", |unit| unit.unit_file_state == "disabled" && !unit.has_wants_link).await;
        systemctl(&["mask", "lab-b.service"]);
        seen.until_unit("lab-b.service", |unit| unit.unit_file_state == "masked" && unit.load_state == "masked").await;
        systemctl(&["unmask", "lab-b.service"]);
        seen.until_unit("lab-b.service", |unit| unit.unit_file_state == "disabled" && unit.load_state == "loaded")
            .await;
    }

    #[tokio::test]
    async fn a_reload_is_one_batch_of_what_changed() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-c.service", SLEEP);
        lab.unit("lab-d.service", SLEEP);
        systemctl(&["start", "lab-c.service", "lab-d.service"]);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-c.service", "lab-d.service", "dbus.service", "systemd-journald.service"]).await;

        seen.forget();
        let before = seen.units.clone();
        systemctl(&["daemon-reload"]);
        seen.until(|seen| seen.told.contains(&"busy false".to_owned())).await;
        assert_eq!(seen.units, before);
        assert_eq!(seen.told, ["busy true", "busy false"], "a reload that changes nothing tells nothing");

        lab.file("/usr/lib/systemd/system/lab-c.service", &SLEEP.replace("sleeps", "dreams"));
        seen.forget();
        systemctl(&["daemon-reload"]);
        seen.until(|seen| seen.told.contains(&"busy false".to_owned())).await;
        assert_eq!(seen.told, ["busy true", "changes lab-c.service", "busy false"]);
        assert_eq!(seen.unit("lab-c.service").description, "dreams");
    }

    #[tokio::test]
    async fn comes_back_after_systemd_executed_itself_anew() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-e.service", SLEEP);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-e.service"]).await;
        let before = seen.units.clone();
        seen.forget();
        systemctl(&["daemon-reexec"]);
        seen.until(|seen| seen.told.contains(&"reset".to_owned()) && seen.is_connected() && !seen.busy).await;
        assert!(seen.told.contains(&"backend connecting".to_owned()), "{:?}", seen.told);
        assert_eq!(seen.units, before);
        assert_eq!(seen.backend.as_ref().unwrap().reconnects, 1);
        assert!(seen.backend.as_ref().unwrap().version.starts_with("252"));
        systemctl(&["start", "lab-e.service"]);
        seen.until_unit("lab-e.service", |unit| unit.active_state == "active").await;
    }

    #[tokio::test]
    async fn an_alias_is_known_by_the_name_asked_for() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-real.service", &format!("{SLEEP}Alias=lab-alias.service\n"));
        systemctl(&["enable", "lab-real.service"]);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-alias.service"]).await;
        let facts = seen.unit("lab-alias.service").clone();
        assert_eq!((facts.id.as_str(), facts.unit_file_state.as_str()), ("lab-real.service", "enabled"));
        assert!(facts.has_wants_link);
        systemctl(&["start", "lab-real.service"]);
        seen.until_unit("lab-alias.service", |unit| unit.active_state == "active").await;
        assert!(!seen.units.contains_key("lab-real.service"));
    }

    #[tokio::test]
    async fn containers_are_mirrored_by_themselves() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-container@.service", "[Service]\nExecStart=/bin/sleep infinity\n");
        let mut seen = plugin();
        seen.connected().await;
        assert!(seen.units.is_empty(), "{:?}", seen.units);
        systemctl(&["start", "lab-container@1.service"]);
        seen.until_unit("lab-container@1.service", |unit| unit.active_state == "active").await;
        assert_eq!(seen.unit("lab-container@1.service").unit_file_state, "static");

        // One that is enabled shows although it does not run.
        systemctl(&["--no-reload", "add-wants", "multi-user.target", "lab-container@2.service"]);
        seen.until_unit("lab-container@2.service", |unit| unit.active_state == "inactive").await;
        assert!(seen.unit("lab-container@2.service").has_wants_link);
        fs::remove_file("/etc/systemd/system/multi-user.target.wants/lab-container@2.service").unwrap();
        seen.until(|seen| !seen.units.contains_key("lab-container@2.service")).await;

        systemctl(&["stop", "lab-container@1.service"]);
        seen.until(|seen| !seen.units.contains_key("lab-container@1.service")).await;
    }

    #[tokio::test]
    async fn a_look_mirrors_nothing_and_other_peoples_looks_tell_nothing() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-f.service", SLEEP);
        lab.unit("lab-g.service", SLEEP);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-g.service"]).await;
        seen.forget();
        let looked = seen.plugin.look(interest(&[("lab-f.service", &["CPUWeight", "NoSuch"])])).await.unwrap();
        let [Change::Unit(name, facts)] = &looked[..] else { panic!("{looked:?}") };
        assert_eq!((&**name, facts.load_state.as_str()), ("lab-f.service", "loaded"));
        assert_eq!(facts.property_signatures.get("CPUWeight").map(String::as_str), Some("t"));
        assert!(!facts.properties.contains_key("NoSuch"));
        // systemctl loads both for a moment, which is signalled to everybody.
        systemctl(&["show", "lab-f.service", "lab-g.service"]);
        // A start is told after all that came before it.
        systemctl(&["start", "lab-g.service"]);
        seen.until_unit("lab-g.service", |unit| unit.active_state == "active").await;
        assert_eq!(seen.told.iter().filter(|told| !told.starts_with("changes lab-g.service")).count(), 0);
        assert!(!seen.units.contains_key("lab-f.service"));
    }

    #[tokio::test]
    async fn properties_set_by_others_are_followed() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-h.service", SLEEP);
        systemctl(&["start", "lab-h.service"]);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch_properties(&[("lab-h.service", &["CPUWeight", "Restart"])]).await;
        let facts = seen.unit("lab-h.service");
        assert_eq!(facts.properties["CPUWeight"], u64::MAX);
        assert_eq!(facts.properties["Restart"], "no");
        assert_eq!(facts.property_signatures.keys().collect::<Vec<_>>(), ["CPUWeight"]);
        systemctl(&["set-property", "lab-h.service", "CPUWeight=77"]);
        seen.until_unit("lab-h.service", |unit| unit.properties["CPUWeight"] == 77).await;
    }

    #[tokio::test]
    async fn a_oneshot_that_ran_well_is_remembered() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-once.service"]).await;
        assert!(seen.unit("lab-once.service").oneshot && !seen.unit("lab-once.service").oneshot_succeeded);
        systemctl(&["start", "lab-once.service"]);
        seen.until_unit("lab-once.service", |unit| unit.oneshot_succeeded && unit.unit_path.is_empty()).await;
        seen.forget();
        systemctl(&["daemon-reload"]);
        seen.until(|seen| seen.told.contains(&"busy false".to_owned())).await;
        assert!(seen.unit("lab-once.service").oneshot_succeeded, "systemd forgot it, the mirror does not");
    }

    #[tokio::test]
    async fn active_triggers_are_named() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-t.service", SLEEP);
        lab.unit("lab-t.timer", "[Timer]\nOnActiveSec=1d\n");
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(&["lab-t.service"]).await;
        systemctl(&["start", "lab-t.timer"]);
        systemctl(&["start", "lab-t.service"]);
        seen.until_unit("lab-t.service", |unit| unit.active_triggers == ["lab-t.timer"]).await;
        systemctl(&["stop", "lab-t.timer"]);
        seen.until_unit("lab-t.service", |unit| unit.active_triggers.is_empty()).await;
    }
}

mod apply {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const ENABLE: UnitOp = UnitOp::Files { unmask: false, enable: Some(true), mask: false };
    const DISABLE: UnitOp = UnitOp::Files { unmask: false, enable: Some(false), mask: false };
    const MASK: UnitOp = UnitOp::Files { unmask: false, enable: None, mask: true };
    const UNMASK: UnitOp = UnitOp::Files { unmask: true, enable: None, mask: false };

    fn properties(values: serde_json::Value) -> UnitOp {
        UnitOp::SetProperties(serde_json::from_value(values).unwrap())
    }

    /// A plugin that mirrors these units.
    async fn applying(units: &[&str]) -> Watched {
        let mut seen = plugin();
        seen.connected().await;
        seen.watch(units).await;
        seen.forget();
        seen
    }

    #[tokio::test]
    async fn starts_and_stops_once() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-a.service", SLEEP);
        let mut seen = applying(&["lab-a.service"]).await;
        let ended = seen.step("lab-a.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.states[&1], [StepState::Running, StepState::Verifying, StepState::Done]);
        assert_eq!(seen.unit("lab-a.service").active_state, "active", "the facts come before the step's end");
        let again = seen.step("lab-a.service", UnitOp::Start).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "{again:?}");

        let before = seen.unit("lab-a.service").active_enter_usec;
        let ended = seen.step("lab-a.service", UnitOp::Restart).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert!(seen.unit("lab-a.service").active_enter_usec > before);

        let ended = seen.step("lab-a.service", UnitOp::Stop).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-a.service").active_state, "inactive");
        let again = seen.step("lab-a.service", UnitOp::Stop).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "{again:?}");
    }

    #[tokio::test]
    async fn a_missing_a_masked_and_a_broken_unit_are_blocked() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-b.service", SLEEP);
        lab.unit("lab-broken.service", "[Service]\nType=oneshot\n");
        systemctl(&["mask", "lab-b.service"]);
        let mut seen = applying(&["lab-b.service", "lab-missing.service", "lab-broken.service"]).await;
        for (unit, reason) in [
            ("lab-missing.service", Reason::UnitNotFound),
            ("lab-b.service", Reason::UnitMasked),
            ("lab-broken.service", Reason::UnitBroken),
        ] {
            let ended = seen.step(unit, UnitOp::Start).await;
            assert_eq!((ended.state, ended.reason, ended.wrote), (StepState::Blocked, reason, false), "{ended:?}");
        }
        let ended = seen.step("lab-missing.service", UnitOp::Stop).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, false), "what is not there does not run");
    }

    #[tokio::test]
    async fn a_start_that_takes_too_long_times_out() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-slow.service", "[Service]\nType=notify\nExecStart=/bin/sleep infinity\nTimeoutStartSec=1\n");
        let mut seen = applying(&["lab-slow.service"]).await;
        let ended = seen.step("lab-slow.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.reason, ended.wrote), (StepState::Failed, Reason::TimedOut, true), "{ended:?}");
    }

    #[tokio::test]
    async fn a_condition_that_is_not_met_is_no_failure() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-if.service", &format!("{SLEEP}[Unit]\nConditionPathExists=/run/lab-no-such\n"));
        lab.unit("lab-must.service", &format!("{SLEEP}[Unit]\nAssertPathExists=/run/lab-no-such\n"));
        let mut seen = applying(&["lab-if.service", "lab-must.service"]).await;
        for unit in ["lab-if.service", "lab-must.service"] {
            let ended = seen.step(unit, UnitOp::Start).await;
            assert_eq!((ended.state, ended.reason), (StepState::Blocked, Reason::ConditionUnmet), "{unit}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_crash_loop_is_seen_within_the_hold_down() {
        let Some(mut lab) = lab() else { return };
        let text = "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 7'\nRestart=always\nRestartSec=0.2\n";
        lab.unit("lab-loop.service", text);
        lab.unit("lab-dies.service", "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 7'\n");
        let mut seen = applying(&["lab-loop.service", "lab-dies.service"]).await;
        let ended = seen.step("lab-loop.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.reason, ended.wrote), (StepState::Failed, Reason::CrashLoop, true), "{ended:?}");
        assert!(ended.message.contains("exit-code") && ended.message.contains("exit status 7"), "{}", ended.message);
        assert!(seen.states[&1].contains(&StepState::Verifying));
        let ended = seen.step("lab-dies.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.reason), (StepState::Failed, Reason::JobFailed), "{ended:?}");
        assert!(ended.message.contains("exit status 7"), "{}", ended.message);
    }

    #[tokio::test]
    async fn a_failing_start_says_how_it_failed() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-fails.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 3'\n");
        let mut seen = applying(&["lab-fails.service"]).await;
        let ended = seen.step("lab-fails.service", UnitOp::Start).await;
        assert_eq!(
            (ended.state, ended.reason, ended.retry),
            (StepState::Failed, Reason::JobFailed, false),
            "{ended:?}"
        );
        assert!(ended.message.contains("exit status 3"), "{}", ended.message);
    }

    #[tokio::test]
    async fn a_oneshot_has_no_hold_down_and_runs_once() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
        let mut seen = applying(&["lab-once.service"]).await;
        let ended = seen.step("lab-once.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.states[&1], [StepState::Running, StepState::Done]);
        let again = seen.step("lab-once.service", UnitOp::Start).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "it ran well in this boot");
    }

    #[tokio::test]
    async fn a_job_that_another_cancels_is_worth_a_retry() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-wait.service", "[Service]\nType=notify\nExecStart=/bin/sleep infinity\n");
        let mut seen = applying(&["lab-wait.service"]).await;
        let work = op_dbus::plugins::Work {
            job: 7,
            steps: vec![step(1, Action::Unit("lab-wait.service".into(), UnitOp::Start), &[]).into()],
        };
        let applied = tokio::spawn(seen.plugin.apply(work));
        seen.until_unit("lab-wait.service", |unit| {
            unit.active_state == "activating" && unit.job.as_ref().is_some_and(|job| job.kind == "start")
        })
        .await;
        systemctl(&["stop", "lab-wait.service"]);
        applied.await.unwrap();
        seen.drain();
        let ended = &seen.ended[&1];
        assert_eq!(
            (ended.state, ended.reason, ended.retry),
            (StepState::Failed, Reason::JobCancelled, true),
            "{ended:?}"
        );
    }

    #[tokio::test]
    async fn a_unit_may_vanish_while_it_is_read() {
        let Some(mut lab) = lab() else { return };
        let mut seen = applying(&["lab-fleeting.service"]).await;
        for _ in 0..20 {
            // Transient units go with their last process; their signals and our questions cross.
            let run = Command::new("systemd-run")
                .args(["--quiet", "--unit=lab-fleeting", "--collect", "/bin/true"])
                .status()
                .unwrap();
            assert!(run.success());
            seen.plugin.look(interest(&[("lab-fleeting.service", &["CPUWeight"])])).await.unwrap();
            seen.until_unit("lab-fleeting.service", |unit| unit.load_state == "not-found").await;
        }
        lab.unit("lab-a.service", SLEEP);
        seen.watch(&["lab-fleeting.service", "lab-a.service"]).await;
        assert_eq!(seen.unit("lab-a.service").load_state, "loaded");
    }

    #[tokio::test]
    async fn enables_and_disables_in_one_call_for_all() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-c.service", SLEEP);
        lab.unit("lab-d.service", SLEEP);
        lab.unit("lab-i@.service", SLEEP);
        lab.unit("lab-static@.service", "[Service]\nExecStart=/bin/sleep infinity\n");
        let units = ["lab-c.service", "lab-d.service", "lab-i@one.service", "lab-static@1.service"];
        let mut seen = applying(&units).await;
        assert_eq!(seen.unit("lab-static@1.service").unit_file_state, "static");
        let steps = |op: &UnitOp| {
            let files = units.iter().zip(1..).map(|(unit, id)| step(id, Action::Unit((*unit).into(), op.clone()), &[]));
            files.chain([step(9, Action::ReloadSystemd, &[1, 2, 3, 4])]).collect::<Vec<_>>()
        };
        let ended = seen.steps(steps(&ENABLE)).await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
        for unit in units {
            assert_eq!(seen.unit(unit).unit_file_state, "enabled", "{unit}");
            assert!(fs::symlink_metadata(format!("/etc/systemd/system/multi-user.target.wants/{unit}")).is_ok());
        }
        let again = seen.steps(steps(&ENABLE)[..4].to_vec()).await;
        assert!(again.values().all(|ended| ended.state == StepState::Done && !ended.wrote), "{again:#?}");
        let ended = seen.steps(steps(&DISABLE)).await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
        assert_eq!(seen.unit("lab-c.service").unit_file_state, "disabled");
        assert_eq!(seen.unit("lab-static@1.service").unit_file_state, "static");
        assert!(!seen.unit("lab-static@1.service").has_wants_link);
    }

    #[tokio::test]
    async fn one_that_cannot_be_enabled_spoils_no_other() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-c.service", SLEEP);
        lab.unit("lab-masked.service", SLEEP);
        systemctl(&["mask", "lab-masked.service"]);
        let mut seen = applying(&["lab-c.service", "lab-masked.service", "lab-missing.service", "-.slice"]).await;
        let enable = |id, unit: &str| step(id, Action::Unit(unit.into(), ENABLE), &[]);
        let after = step(5, Action::Unit("lab-missing.service".into(), UnitOp::Start), &[3]);
        let ended = seen
            .steps(vec![
                enable(1, "lab-c.service"),
                enable(2, "lab-masked.service"),
                enable(3, "lab-missing.service"),
                after,
            ])
            .await;
        assert_eq!((ended[&1].state, ended[&1].wrote), (StepState::Done, true), "{ended:#?}");
        assert_eq!((ended[&2].state, ended[&2].reason), (StepState::Blocked, Reason::UnitMasked), "{ended:#?}");
        assert_eq!((ended[&3].state, ended[&3].reason), (StepState::Blocked, Reason::UnitNotFound), "{ended:#?}");
        assert_eq!((ended[&5].state, ended[&5].reason), (StepState::Blocked, Reason::DependencyFailed), "{ended:#?}");
    }

    #[tokio::test]
    async fn masks_and_unmasks() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-d.service", SLEEP);
        lab.file("/etc/systemd/system/lab-etc.service", SLEEP);
        systemctl(&["daemon-reload"]);
        let mut seen = applying(&["lab-d.service", "lab-etc.service"]).await;
        let ended = seen.step("lab-d.service", MASK).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-d.service").unit_file_state, "masked");
        let again = seen.step("lab-d.service", MASK).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "{again:?}");
        let ended = seen.step("lab-d.service", UNMASK).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-d.service").unit_file_state, "disabled");
        let ended = seen.step("lab-etc.service", MASK).await;
        assert_eq!(
            (ended.state, ended.reason, ended.wrote),
            (StepState::Blocked, Reason::CannotMask, false),
            "{ended:?}"
        );
        // Unmask, enable and start in one go, as a plan has them.
        seen.step("lab-d.service", MASK).await;
        let files = UnitOp::Files { unmask: true, enable: Some(true), mask: false };
        let ended = seen
            .steps(vec![
                step(1, Action::Unit("lab-d.service".into(), files), &[]),
                step(2, Action::ReloadSystemd, &[1]),
                step(3, Action::Unit("lab-d.service".into(), UnitOp::Start), &[2]),
            ])
            .await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
        let facts = seen.unit("lab-d.service");
        assert_eq!((facts.unit_file_state.as_str(), facts.active_state.as_str()), ("enabled", "active"));
    }

    #[tokio::test]
    async fn an_alias_is_acted_on_by_its_own_name() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-real.service", &format!("{SLEEP}Alias=lab-alias.service\n"));
        systemctl(&["enable", "lab-real.service"]);
        let mut seen = applying(&["lab-alias.service"]).await;
        let ended = seen.step("lab-alias.service", UnitOp::Start).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-alias.service").active_state, "active");
        let ended = seen.step("lab-alias.service", DISABLE).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert!(fs::symlink_metadata("/etc/systemd/system/multi-user.target.wants/lab-real.service").is_err());
    }

    #[tokio::test]
    async fn sets_properties_of_a_living_and_of_a_stopped_unit() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-p.service", SLEEP);
        let mut seen = plugin();
        seen.connected().await;
        seen.watch_properties(&[("lab-p.service", &["CPUWeight"])]).await;
        let wanted = json!({"CPUWeight": 321, "MemoryMax": 268_435_456_u64, "TasksMax": "infinity"});
        let ended = seen.step("lab-p.service", properties(wanted.clone())).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-p.service").properties["CPUWeight"], 321);
        assert_eq!(systemctl(&["show", "--value", "--property=MemoryMax", "lab-p.service"]).trim(), "268435456");
        let again = seen.step("lab-p.service", properties(wanted.clone())).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "{again:?}");

        seen.step("lab-p.service", UnitOp::Start).await;
        let again = seen.step("lab-p.service", properties(wanted)).await;
        assert_eq!((again.state, again.wrote), (StepState::Done, false), "it holds for good: {again:?}");
        let ended = seen.step("lab-p.service", properties(json!({"CPUWeight": 322, "Description": "anew"}))).await;
        assert_eq!((ended.state, ended.wrote), (StepState::Done, true), "{ended:?}");
        assert_eq!(seen.unit("lab-p.service").description, "anew");

        for (bad, reason) in [
            (json!({"Restart": "always"}), Reason::PropertyNotSettable),
            (json!({"NoSuch": 1}), Reason::PropertyNotSettable),
            (json!({"CPUWeight": "much"}), Reason::PropertyNotSettable),
        ] {
            let ended = seen.step("lab-p.service", properties(bad.clone())).await;
            assert_eq!(
                (ended.state, ended.reason, ended.wrote),
                (StepState::Blocked, reason, false),
                "{bad}: {ended:?}"
            );
        }
        let ended = seen.step("lab-p.service", properties(json!({"CPUWeight": 99_999}))).await;
        assert_eq!((ended.state, ended.reason), (StepState::Failed, Reason::Refused), "{ended:?}");
    }

    #[tokio::test]
    async fn steps_that_depend_on_nothing_run_side_by_side() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-n@.service", "[Service]\nExecStart=/bin/sleep infinity\n");
        let units: Vec<String> = (0..100).map(|n| format!("lab-n@{n}.service")).collect();
        let names: Vec<&str> = units.iter().map(String::as_str).collect();
        let mut seen = applying(&names).await;
        let all = |op: &UnitOp| {
            units
                .iter()
                .zip(1..)
                .map(|(unit, id)| step(id, Action::Unit(unit.as_str().into(), op.clone()), &[]))
                .collect::<Vec<_>>()
        };
        let ended = seen.steps(all(&UnitOp::Start)).await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
        // All of them verify before the first is done: one hold-down for all and not one for each.
        let first_done = seen.told.iter().position(|told| told.ends_with("done")).unwrap();
        let verifying = seen.told.iter().take(first_done).filter(|told| told.ends_with("verifying")).count();
        assert_eq!(verifying, units.len());
        let ended = seen.steps(all(&UnitOp::Stop)).await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
    }

    #[tokio::test]
    async fn a_step_outlives_systemd_executing_itself_anew() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-a.service", SLEEP);
        let mut seen = applying(&["lab-a.service"]).await;
        let work = op_dbus::plugins::Work {
            job: 7,
            steps: vec![step(1, Action::Unit("lab-a.service".into(), UnitOp::Start), &[]).into()],
        };
        let applied = tokio::spawn(seen.plugin.apply(work));
        seen.until(|seen| seen.states.get(&1).is_some_and(|states| states.contains(&StepState::Verifying))).await;
        systemctl(&["daemon-reexec"]);
        applied.await.unwrap();
        seen.drain();
        assert!(seen.told.contains(&"reset".to_owned()), "{:?}", seen.told);
        assert_eq!((seen.ended[&1].state, seen.ended[&1].wrote), (StepState::Done, true), "{:?}", seen.ended);
    }

    #[tokio::test]
    async fn what_has_begun_ends_although_nobody_waits() {
        let Some(mut lab) = lab() else { return };
        lab.unit("lab-a.service", SLEEP);
        let mut seen = applying(&["lab-a.service"]).await;
        let work = op_dbus::plugins::Work {
            job: 7,
            steps: vec![step(1, Action::Unit("lab-a.service".into(), UnitOp::Start), &[]).into()],
        };
        let waited = tokio::time::timeout(Duration::ZERO, seen.plugin.apply(work)).await;
        assert!(waited.is_err());
        seen.until(|seen| seen.ended.contains_key(&1)).await;
        assert_eq!(seen.ended[&1].state, StepState::Done);
    }
}

mod session {
    use super::*;

    /// What the next test runs as somebody who is not root.
    #[tokio::test]
    async fn as_a_user_inside() {
        if std::env::var_os("OPDBUS_LAB").is_none_or(|value| value != "as a user") {
            return;
        }
        let units = PathBuf::from(std::env::var_os("HOME").unwrap()).join(".config/systemd/user");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("lab-user.service"), "[Service]\nExecStart=/bin/sleep infinity\n").unwrap();
        systemctl(&["--user", "daemon-reload"]);
        let mut seen = Watched::start(SystemdConfig::session());
        seen.connected().await;
        seen.watch(&["lab-user.service"]).await;
        let files = UnitOp::Files { unmask: false, enable: Some(true), mask: false };
        let ended = seen
            .steps(vec![
                step(1, Action::Unit("lab-user.service".into(), files), &[]),
                step(2, Action::ReloadSystemd, &[1]),
                step(3, Action::Unit("lab-user.service".into(), UnitOp::Start), &[2]),
            ])
            .await;
        assert!(ended.values().all(|ended| ended.state == StepState::Done && ended.wrote), "{ended:#?}");
        let link = units.join("default.target.wants/lab-user.service");
        assert!(fs::symlink_metadata(&link).is_ok());
        fs::remove_file(link).unwrap();
        seen.until_unit("lab-user.service", |unit| unit.unit_file_state == "static" && !unit.has_wants_link).await;
        let ended = seen.step("lab-user.service", UnitOp::Stop).await;
        assert_eq!(ended.state, StepState::Done);
        fs::remove_file(units.join("lab-user.service")).unwrap();
    }

    #[tokio::test]
    async fn ones_own_units_on_the_session_bus() {
        let Some(_lab) = lab() else { return };
        Command::new("loginctl").args(["enable-linger", "alice"]).status().unwrap();
        systemctl(&["start", "user@1000.service"]);
        let output = Command::new("systemd-run")
            .args(["--quiet", "--collect", "--pipe", "--wait", "--uid=alice", "--setenv=OPDBUS_LAB=as a user"])
            .args(["--setenv=HOME=/home/alice", "--setenv=XDG_RUNTIME_DIR=/run/user/1000"])
            .arg("--setenv=DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "session::as_a_user_inside", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
