//! Any documents, worlds and events in any order.

use proptest::prelude::*;

use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

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
}
