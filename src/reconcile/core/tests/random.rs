//! Any documents, worlds and events in any order.

use proptest::prelude::*;

use super::*;
use crate::model::Kind;

#[derive(Debug, Clone)]
enum Event {
    Set(usize),
    Reconcile,
    Stop(usize),
    Unplug(usize),
    Away(bool),
    Back(bool),
    Faulty(bool),
    Pass(u64),
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3usize).prop_map(Event::Set),
        1 => Just(Event::Reconcile),
        2 => (0..8usize).prop_map(Event::Stop),
        2 => (0..8usize).prop_map(Event::Unplug),
        1 => any::<bool>().prop_map(Event::Away),
        2 => any::<bool>().prop_map(Event::Back),
        1 => any::<bool>().prop_map(Event::Faulty),
        3 => (0..20 * SECOND).prop_map(Event::Pass),
        1 => Just(Event::Cancel),
    ]
}

/// What happens to one whose backends are slow, or away.
#[derive(Debug, Clone)]
enum Slow {
    Set(usize),
    Away(&'static str, BackendStatus),
    Back(&'static str),
    Hold,
    Release,
    Pass(u64),
}

fn slow_event() -> impl Strategy<Value = Slow> {
    let plugin = || prop_oneof![Just("systemd"), Just("ovsdb")];
    let status = prop_oneof![Just(BackendStatus::Connecting), Just(BackendStatus::Unavailable)];
    prop_oneof![
        1 => (0..2usize).prop_map(Slow::Set),
        2 => (plugin(), status).prop_map(|(plugin, status)| Slow::Away(plugin, status)),
        2 => plugin().prop_map(Slow::Back),
        2 => Just(Slow::Hold),
        2 => Just(Slow::Release),
        2 => (0..5 * SECOND).prop_map(Slow::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(400)))]

    /// Whatever happens on the way: once the backends are back and Reconcile was called, every job is over, the
    /// counters are right, and only what is blocked is out of sync.
    #[test]
    fn it_comes_right_in_the_end(
        docs in proptest::collection::vec(plans::document(), 3),
        world in plans::world(),
        events in proptest::collection::vec(event(), 0..25),
    ) {
        let mut sim = Sim::new(world);
        for event in events {
            match event {
                Event::Set(doc) => drop(sim.set(&docs[doc])),
                Event::Reconcile => drop(sim.core.reconcile(None, Caller::default(), sim.now)),
                Event::Stop(at) => {
                    let name = sim.world.units.keys().nth(at).cloned();
                    if let Some(unit) = name.and_then(|name| sim.world.units.get_mut(&name)) {
                        unit.active_state = "failed".to_owned();
                        sim.tell();
                    }
                }
                Event::Unplug(at) => {
                    let name = sim.world.ports.iter().filter(|(name, port)| **name != port.bridge).nth(at).map(|(name, _)| name.clone());
                    if let Some(name) = name {
                        sim.world.remove_port(&name);
                        sim.tell();
                    }
                }
                Event::Away(systemd) => sim.backend(if systemd { "systemd" } else { "ovsdb" }, BackendStatus::Connecting),
                Event::Back(systemd) => sim.connect(if systemd { "systemd" } else { "ovsdb" }),
                Event::Faulty(faulty) => sim.world.away = faulty,
                Event::Pass(usec) => sim.pass(usec),
                Event::Cancel => {
                    if let Some(job) = sim.core.writer {
                        sim.core.cancel(job, sim.now).unwrap();
                    }
                }
            }
            sim.pump();
            sim.check();
        }
        sim.world.away = false;
        sim.connect("systemd");
        sim.connect("ovsdb");
        sim.pump();
        if sim.generation == 0 {
            return Ok(());
        }
        // Twice: a hook may re-plug a port while its container starts.
        for _ in 0..2 {
            sim.core.reconcile(None, Caller::default(), sim.now).unwrap();
            sim.pump();
            sim.pass(60 * SECOND);
        }
        sim.check();
        prop_assert!(sim.core.is_idle());
        for (id, facts) in sim.view.resources.iter().filter(|(_, facts)| facts.managed) {
            prop_assert!(facts.in_sync || facts.status == Status::Blocked, "{} is {:?}", id, facts);
        }
        let ended: BTreeMap<JobId, usize> = sim.notices.iter().fold(BTreeMap::new(), |mut ended, notice| {
            if let Notice::JobFinished { job, .. } = notice {
                *ended.entry(*job).or_default() += 1;
            }
            ended
        });
        prop_assert!(ended.values().all(|times| *times == 1), "a job finished twice");
        prop_assert_eq!(u64::try_from(ended.len()).unwrap(), sim.view.state.jobs_total);
    }

    /// Whenever backends come and go, and however long steps take: in the end nothing is held up by what holds, although
    /// nobody asks for it anew.
    #[test]
    fn nothing_stays_held_up_by_what_holds(
        docs in proptest::collection::vec(plans::document(), 2),
        world in plans::world(),
        events in proptest::collection::vec(slow_event(), 1..15),
    ) {
        let mut sim = Sim::new(world);
        sim.set(&docs[0]);
        for event in events {
            match event {
                Slow::Set(doc) => drop(sim.set(&docs[doc])),
                Slow::Away(plugin, status) => sim.backend(plugin, status),
                Slow::Back(plugin) => sim.connect(plugin),
                Slow::Hold => sim.hold = true,
                Slow::Release => sim.release(),
                Slow::Pass(usec) => sim.pass(usec),
            }
            sim.pump();
            sim.check();
        }
        sim.release();
        sim.connect("systemd");
        sim.connect("ovsdb");
        sim.pump();
        sim.pass(120 * SECOND);
        prop_assert!(sim.core.is_idle());
        let held_up = sim.view.resources.iter().filter(|(_, facts)| facts.reason == Reason::DependencyFailed);
        for (id, facts) in held_up {
            let earlier: Vec<_> = sim.core.wanted.dependencies.get(id).into_iter().flatten().collect();
            let holds = |id: &&ResourceId| sim.view.resources.get(*id).is_none_or(|facts| facts.in_sync);
            let packages = sim.view.resources.iter().filter(|(id, _)| id.kind == Kind::Package);
            let missing = id.kind == Kind::Unit && !facts.present;
            let package_to_come = missing && packages.into_iter().any(|(_, facts)| !facts.in_sync);
            prop_assert!(!earlier.iter().all(holds) || package_to_come, "{} waits for {:?}: {:?}", id, earlier, facts);
        }
    }
}
