//! A server that misbehaves: pieces, errors, silence, ends at the worst moment.

use std::time::Duration;

use op_dbus::{
    desired::{PortSpec, Want},
    model::{BackendStatus, Reason, StepState},
    plan::{Action, PortOp},
    plugins::{Plugin as _, ovsdb::Timing},
};
use op_dbus_testkit::ovsdb::{PrivateSwitch, Watched, bridge, internal, port, timing};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener};

use crate::peer::{
    BRIDGE, FakeServer, LOCAL_PORT, PORT, Peer, applied, committed, failed, initial, operations, rows, update, wrapped,
};

fn tag(number: u16) -> Action {
    port("p0", PortOp::Set, PortSpec { tag: Want::Is(number), ..internal("br0") })
}

fn guard_failed() -> Value {
    json!({"error": "timed out", "details": "\"where\" clause test failed"})
}

/// The plugin connected to a fake server that has port p0.
async fn connected(timing: Timing) -> (FakeServer, Peer, Watched) {
    let server = FakeServer::start();
    let mut watched = Watched::start(server.remote(), timing);
    let peer = server.loaded(&[json!({"tag": 1})]).await;
    watched.until_status(BackendStatus::Connected).await;
    (server, peer, watched)
}

#[tokio::test]
async fn replies_in_pieces_of_one_byte() {
    let server = FakeServer::start();
    let mut watched = Watched::start(server.remote(), timing());
    let mut peer = server.accept().await;
    let request = peer.request("monitor_cond_since").await;
    let reply = json!({"id": request["id"], "result": [false, "0", initial(&[json!({"tag": 1})])], "error": null});
    peer.send_bytes(reply.to_string().as_bytes(), 1).await;
    watched.until_status(BackendStatus::Connected).await;
    let two = [applied(&json!({"tag": 2}), 2), applied(&json!({"tag": 3}), 3)].map(|rows| update(&rows).to_string());
    peer.send_bytes(two.concat().as_bytes(), 1).await;
    watched.until("the change", |now| now.ports["p0"].tag == Some(3)).await;
}

#[tokio::test]
async fn messages_of_whole_pages_are_not_waited_for() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    for pages in 1..=4_usize {
        let message = |padding: usize| {
            let map = json!(["map", [[format!("k{pages}"), "x".repeat(padding)]]]);
            update(&json!({"Port": {PORT: {"modify": {"external_ids": map}}}})).to_string()
        };
        let text = message(4096 * pages - message(0).len());
        assert_eq!(text.len(), 4096 * pages);
        peer.send_bytes(text.as_bytes(), usize::MAX).await;
        watched.until("the change", |now| now.ports["p0"].external_ids.len() == pages).await;
    }
}

#[tokio::test]
async fn a_burst_longer_than_one_read_is_one_batch() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    watched.forget();
    let change = |number: usize| {
        let map = json!(["map", [[format!("k{number}"), "x".repeat(1000)]]]);
        update(&json!({"Port": {PORT: {"modify": {"external_ids": map}}}})).to_string()
    };
    let burst: String = (0..100).map(change).collect();
    assert!(burst.len() > 100_000, "more than is read at once, less than a socket holds");
    peer.send_bytes(burst.as_bytes(), usize::MAX).await;
    watched.until("the last change", |now| now.ports["p0"].external_ids.len() == 100).await;
    assert_eq!(watched.batches, [1]);
}

#[tokio::test]
async fn older_servers_are_followed_in_their_way() {
    let server = FakeServer::start();
    let mut watched = Watched::start(server.remote(), timing());
    let mut peer = server.accept().await;
    for method in ["monitor_cond_since", "monitor_cond"] {
        let request = peer.request(method).await;
        // An unknown method is answered without a result.
        peer.send(&json!({"id": request["id"], "error": {"error": "unknown method", "details": ""}})).await;
    }
    let request = peer.request("monitor").await;
    let all = rows(&[json!({"tag": 1})]);
    peer.reply(&request, wrapped(all.clone(), "new")).await;
    watched.until_status(BackendStatus::Connected).await;
    assert_eq!(watched.ports["p0"].tag, Some(1));
    let mut bridge = all["Bridge"][BRIDGE].clone();
    bridge["ports"] = json!(["uuid", LOCAL_PORT]);
    let gone = json!({
        "Port": {PORT: {"old": all["Port"][PORT]}},
        "Bridge": {BRIDGE: {"old": {"ports": all["Bridge"][BRIDGE]["ports"]}, "new": bridge}},
    });
    peer.send(&json!({"id": null, "method": "update", "params": ["op-dbus", gone]})).await;
    watched.until("the end of the port", |now| !now.ports.contains_key("p0")).await;
    assert_eq!(watched.bridges["br0"].ports.len(), 1);
}

#[tokio::test]
async fn a_server_over_tcp_is_followed_and_its_echo_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("tcp:127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let mut watched = Watched::start(remote, timing());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut buffer = vec![0; 1 << 16];
    let length = stream.read(&mut buffer).await.unwrap();
    let request: Value = serde_json::from_slice(&buffer[..length]).unwrap();
    let reply = json!({"id": request["id"], "result": [false, "0", initial(&[])], "error": null});
    let echo = json!({"method": "echo", "params": ["x"], "id": "echo"});
    stream.write_all(format!("{reply}{echo}").as_bytes()).await.unwrap();
    watched.until_status(BackendStatus::Connected).await;
    let length = stream.read(&mut buffer).await.unwrap();
    let answer: Value = serde_json::from_slice(&buffer[..length]).unwrap();
    assert_eq!(answer, json!({"id": "echo", "result": ["x"], "error": null}));
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_connection_and_only_that() {
    let modify = |columns: Value| update(&json!({"Port": {BRIDGE: {"modify": columns}}})).to_string();
    let cancelled = json!({"id": null, "method": "monitor_canceled", "params": ["op-dbus"]}).to_string();
    for nonsense in ["HTTP/1.1 400".to_owned(), "{\"id\":}".to_owned(), modify(json!({"tag": 3})), cancelled] {
        let (server, mut peer, mut watched) = connected(timing()).await;
        peer.send_bytes(nonsense.as_bytes(), usize::MAX).await;
        watched.until_status(BackendStatus::Connecting).await;
        assert_ne!(watched.backend.as_ref().unwrap().message, "");
        let _peer = server.loaded(&[]).await;
        watched.until_status(BackendStatus::Connected).await;
        assert!(!watched.ports.contains_key("p0"));
    }
}

#[tokio::test]
async fn a_server_that_hangs_from_the_start_is_told() {
    let server = FakeServer::start();
    let mut watched = Watched::start(server.remote(), Timing { answer: Duration::from_millis(100), ..timing() });
    let mut first = server.accept().await;
    watched.until_status(BackendStatus::Unavailable).await;
    assert!(watched.backend.as_ref().unwrap().message.contains("no answer"), "{:?}", watched.backend);
    first.request("monitor_cond_since").await;
    assert_eq!(first.receive().await, None, "the connection is given up");
    let _second = server.loaded(&[]).await;
    watched.until_status(BackendStatus::Connected).await;
}

#[tokio::test]
async fn a_real_server_that_hangs_is_left_and_found_again() {
    let switch = PrivateSwitch::start();
    switch.vsctl(&["add-br", "br0"]);
    let quick = Timing { answer: Duration::from_millis(300), ..timing() };
    let mut watched = Watched::connected(&switch, quick).await;
    switch.signal_server("STOP");
    let work = watched.work(vec![(port("p0", PortOp::Add, internal("br0")), vec![])]);
    let applied = watched.plugin.apply(work);
    watched.until_status(BackendStatus::Connecting).await;
    switch.signal_server("CONT");
    watched.end_of(applied).await;
    assert_eq!(watched.ended[&1].state, StepState::Done, "{:?}", watched.ended[&1]);
    assert_eq!(switch.vsctl(&["list-ports", "br0"]), "p0");
}

#[tokio::test]
async fn nothing_is_written_to_a_peer_that_does_not_answer_the_echo() {
    let impatient = Timing { answer: Duration::from_millis(100), idle: Duration::ZERO, ..timing() };
    let (server, mut peer, mut watched) = connected(impatient).await;
    let work = watched.work(vec![(tag(5), vec![])]);
    let applied_all = watched.plugin.apply(work);
    peer.request("echo").await;
    assert_eq!(peer.receive().await, None, "no transaction went out");
    let mut peer = server.loaded(&[json!({"tag": 1})]).await;
    let request = peer.request("transact").await;
    peer.update(applied(&json!({"tag": 5}), 2)).await;
    peer.reply(&request, committed(&request, 2)).await;
    watched.end_of(applied_all).await;
    assert_eq!(watched.ended[&1].state, StepState::Done);
}

#[tokio::test]
async fn a_silent_connection_is_probed() {
    let timing = Timing { probe: Duration::from_millis(50), ..timing() };
    let (_server, mut peer, _watched) = connected(timing).await;
    for _ in 0..2 {
        let echo = peer.request("echo").await;
        peer.reply(&echo, json!([])).await;
    }
}

#[tokio::test]
async fn a_server_lost_before_it_wrote_is_asked_again() {
    let (server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(vec![(tag(5), vec![])]);
    let applied_all = watched.plugin.apply(work);
    peer.request("transact").await;
    drop(peer);
    let mut peer = server.loaded(&[json!({"tag": 1})]).await;
    let request = peer.request("transact").await;
    peer.update(applied(&json!({"tag": 5}), 2)).await;
    peer.reply(&request, committed(&request, 2)).await;
    watched.end_of(applied_all).await;
    assert_eq!((watched.ended[&1].state, watched.ended[&1].wrote), (StepState::Done, true));
}

#[tokio::test]
async fn a_server_lost_after_it_wrote_is_not_asked_twice() {
    let (server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(vec![(tag(5), vec![])]);
    let applied_all = watched.plugin.apply(work);
    peer.request("transact").await;
    drop(peer);
    let mut peer = server.accept().await;
    let request = peer.request("monitor_cond_since").await;
    let mut rows = initial(&[json!({"tag": 5})]);
    rows["Open_vSwitch"][crate::peer::ROOT]["initial"]["next_cfg"] = json!(2);
    peer.reply(&request, json!([false, "0", rows])).await;
    // Committed is not applied: it is waited for, although the answer was lost.
    watched
        .until("the look at what was written", |now| {
            now.states.get(&1).is_some_and(|s| s.contains(&StepState::Verifying))
        })
        .await;
    assert!(!watched.ended.contains_key(&1));
    peer.update(json!({"Open_vSwitch": {crate::peer::ROOT: {"modify": {"cur_cfg": 2}}}})).await;
    watched.end_of(applied_all).await;
    assert_eq!((watched.ended[&1].state, watched.ended[&1].wrote), (StepState::Done, true));
    drop(watched);
    assert_eq!(peer.receive().await, None, "no second transaction");
}

#[tokio::test]
async fn a_guard_that_fails_is_read_and_computed_anew() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(vec![(tag(5), vec![])]);
    let applied_all = watched.plugin.apply(work);
    let first = peer.request("transact").await;
    assert_eq!(operations(&first)[0]["rows"], json!([{"tag": 1}]));
    peer.update(json!({"Port": {PORT: {"modify": {"tag": 9}}}})).await;
    peer.reply(&first, failed(&first, 0, &guard_failed())).await;
    let second = peer.request("transact").await;
    assert_eq!(operations(&second)[0]["rows"], json!([{"tag": 9}]));
    // The other client writes what we wanted meanwhile: nothing is left to write.
    peer.update(applied(&json!({"tag": 5}), 1)).await;
    peer.reply(&second, failed(&second, 0, &guard_failed())).await;
    watched.end_of(applied_all).await;
    assert_eq!((watched.ended[&1].state, watched.ended[&1].wrote), (StepState::Done, false));
}

#[tokio::test]
async fn an_endless_fight_is_given_up() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(vec![
        (tag(5), vec![]),
        (
            bridge(
                "br0",
                op_dbus::plan::BridgeOp::Set,
                op_dbus::desired::BridgeSpec { stp_enable: Some(true), ..Default::default() },
            ),
            vec![],
        ),
    ]);
    let applied_all = watched.plugin.apply(work);
    // Operations: a guard for the port and one for the bridge. Only the port is fought over.
    let mut number = 10;
    let request = loop {
        let request = peer.request("transact").await;
        let guard =
            operations(&request).iter().position(|operation| operation["op"] == "wait" && operation["table"] == "Port");
        let Some(at) = guard else { break request };
        number += 1;
        peer.update(json!({"Port": {PORT: {"modify": {"tag": number}}}})).await;
        peer.reply(&request, failed(&request, at, &guard_failed())).await;
    };
    peer.update(json!({
        "Bridge": {BRIDGE: {"modify": {"stp_enable": true}}},
        "Open_vSwitch": {crate::peer::ROOT: {"modify": {"next_cfg": 2, "cur_cfg": 2}}},
    }))
    .await;
    peer.reply(&request, committed(&request, 2)).await;
    watched.end_of(applied_all).await;
    let ended = &watched.ended[&1];
    assert_eq!(
        (ended.state, ended.reason, ended.retry, ended.wrote),
        (StepState::Failed, Reason::Contended, true, false)
    );
    assert_eq!(watched.ended[&2].state, StepState::Done);
}

#[tokio::test]
async fn a_change_of_another_hand_after_ours_is_put_right_once_more() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(vec![(tag(5), vec![])]);
    let applied_all = watched.plugin.apply(work);
    let request = peer.request("transact").await;
    peer.update(json!({"Port": {PORT: {"modify": {"tag": 5}}}})).await;
    peer.reply(&request, committed(&request, 2)).await;
    // Before the switch has taken it over, somebody writes again.
    peer.update(applied(&json!({"tag": 9}), 2)).await;
    let request = peer.request("transact").await;
    peer.update(applied(&json!({"tag": 5}), 3)).await;
    peer.reply(&request, committed(&request, 3)).await;
    watched.end_of(applied_all).await;
    assert_eq!(watched.ended[&1].state, StepState::Done);
}

fn two_steps() -> Vec<(Action, Vec<u32>)> {
    let stp = op_dbus::desired::BridgeSpec { stp_enable: Some(true), ..Default::default() };
    vec![(tag(5), vec![]), (bridge("br0", op_dbus::plan::BridgeOp::Set, stp), vec![])]
}

#[tokio::test]
async fn an_error_in_the_middle_fails_its_step_and_the_others_go_on() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(two_steps());
    let applied_all = watched.plugin.apply(work);
    let request = peer.request("transact").await;
    let at = operations(&request).iter().position(|own| own["op"] == "update" && own["table"] == "Bridge").unwrap();
    assert!(at > 0 && at + 1 < operations(&request).len());
    let error = json!({"error": "constraint violation", "details": "no"});
    peer.reply(&request, failed(&request, at, &error)).await;
    let request = peer.request("transact").await;
    assert!(operations(&request).iter().all(|operation| operation["table"] != "Bridge"));
    peer.update(applied(&json!({"tag": 5}), 2)).await;
    peer.reply(&request, committed(&request, 2)).await;
    watched.end_of(applied_all).await;
    assert_eq!(watched.ended[&1].state, StepState::Done);
    let refused = &watched.ended[&2];
    assert_eq!(
        (refused.reason, refused.message.as_str(), refused.retry),
        (Reason::Refused, "constraint violation: no", false)
    );
}

#[tokio::test]
async fn an_error_at_commit_makes_each_resource_go_alone() {
    let (_server, mut peer, mut watched) = connected(timing()).await;
    let work = watched.work(two_steps());
    let applied_all = watched.plugin.apply(work);
    let request = peer.request("transact").await;
    let mut elements = committed(&request, 2);
    elements.as_array_mut().unwrap().push(json!({"error": "resources exhausted", "details": "full"}));
    peer.reply(&request, elements).await;

    let request = peer.request("transact").await;
    assert!(operations(&request).iter().all(|operation| operation["table"] != "Bridge"));
    peer.update(applied(&json!({"tag": 5}), 2)).await;
    peer.reply(&request, committed(&request, 2)).await;
    let request = peer.request("transact").await;
    assert!(operations(&request).iter().all(|operation| operation["table"] != "Port"));
    let mut elements = committed(&request, 3);
    elements.as_array_mut().unwrap().push(json!({"error": "resources exhausted", "details": "full"}));
    peer.reply(&request, elements).await;
    watched.end_of(applied_all).await;
    assert_eq!((watched.ended[&1].state, watched.ended[&1].wrote), (StepState::Done, true));
    let refused = &watched.ended[&2];
    assert_eq!(
        (refused.state, refused.reason, refused.retry, refused.wrote),
        (StepState::Failed, Reason::Refused, true, false)
    );
}
