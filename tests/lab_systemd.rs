//! The systemd plugin against a real systemd, with systemctl as the other client. Runs in the lab only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "common/systemd.rs"]
#[allow(dead_code)]
mod common;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::Watched;
use op_dbus::plugins::systemd::SystemdConfig;

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
        use op_dbus::{model::Change, plugins::Plugin as _};
        let looked = seen.plugin.look(common::interest(&[("lab-f.service", &["CPUWeight", "NoSuch"])])).await.unwrap();
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
