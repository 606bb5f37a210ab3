//! The client against a server of our own, for what no fake of the API does: broken answers, trust, lost connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::plugins::proxmox::{SecretSource, Trust};

const TOKEN: &str = "op@pve!lab=01234567-89ab-cdef-0123-456789abcdef";

/// A server that answers each connection's first request with those bytes, and what it got.
struct Server {
    url: String,
    fingerprint: [u8; 32],
    ca: String,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
}

/// What it does with a request.
#[derive(Clone)]
enum Answer {
    /// Sends this.
    Bytes(String),
    /// Sends this once all of these answers have their request.
    Together(String),
    /// Takes it, and closes the connection.
    Drop,
    /// Takes it, and says nothing.
    Hang,
}

async fn serve(answers: Vec<Answer>) -> Server {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    // Those that answer together do so once all of them have a request.
    let together = answers.iter().filter(|answer| matches!(answer, Answer::Together(_))).count();
    let together = Arc::new(tokio::sync::Barrier::new(together));
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust leaves here.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let answering = answer_one(stream, answer.clone(), sender.clone(), together.clone());
            if matches!(answer, Answer::Together(_) | Answer::Hang) {
                tokio::spawn(answering);
            } else {
                answering.await;
            }
        }
        std::future::pending::<()>().await;
    });
    Server { url, fingerprint: Sha256::digest(certificate.der()).into(), ca: ca_certificate.pem(), requests }
}

async fn answer_one(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    answer: Answer,
    requests: tokio::sync::mpsc::UnboundedSender<String>,
    together: Arc<tokio::sync::Barrier>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !complete(&request) {
        let read = stream.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..read]);
        if read == 0 {
            break;
        }
    }
    requests.send(String::from_utf8(request).unwrap()).unwrap();
    match answer {
        Answer::Drop => {}
        Answer::Hang => std::future::pending().await,
        Answer::Bytes(bytes) => write(&mut stream, &bytes).await,
        Answer::Together(bytes) => {
            together.wait().await;
            write(&mut stream, &bytes).await;
        }
    }
}

async fn write(stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>, bytes: &str) {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// Whether a request has come with all of its body.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

fn said(status: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

fn client(server: &Server, trust: Trust, folder: &Path) -> Client {
    let token = folder.join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let mut settings = Settings { token: SecretSource::File(token), trust, ..Settings::for_tests(&server.url) };
    settings.timing.read = Duration::from_millis(300);
    settings.timing.write = Duration::from_millis(300);
    Client::new(&settings).unwrap()
}

async fn asked(answer: Answer, call: &Call) -> (Result<Value, ApiError>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(vec![answer]).await;
    let client = client(&server, Trust::Pinned(server.fingerprint), folder.path());
    let result = client.call(call).await;
    (result, server.requests.recv().await.unwrap())
}

#[tokio::test]
async fn a_call_is_plain_http_with_the_token_and_a_form() {
    let call =
        Call::new(Verb::Put, "/nodes/pve1/lxc/101/config").with("net0", "name=eth0,ip=10.0.0.1/24").with("x", "a b&c");
    let (result, request) = asked(said("200 OK", r#"{"data": null}"#), &call).await;
    assert_eq!(result, Ok(Value::Null));
    let lower = request.to_ascii_lowercase();
    assert!(request.starts_with("PUT /api2/json/nodes/pve1/lxc/101/config HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("PVEAPIToken={TOKEN}")) && !lower.contains("transfer-encoding"), "{request}");
    assert!(request.ends_with("net0=name%3Deth0%2Cip%3D10.0.0.1%2F24&x=a%20b%26c"), "{request}");
    let call = Call::new(Verb::Delete, "/nodes/pve1/lxc/101").with("force", "1");
    let (_, request) = asked(said("200 OK", r#"{"data": "UPID:"}"#), &call).await;
    assert!(request.starts_with("DELETE /api2/json/nodes/pve1/lxc/101?force=1 HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("content-type"), "no body, and nothing said of one: {request}");
}

#[tokio::test]
async fn the_text_of_an_error_is_found_wherever_it_stands() {
    let get = Call::new(Verb::Put, "/version");
    for (answer, error) in [
        (said("500 unable to write the moon", ""), ApiError::Refused("unable to write the moon".into())),
        (
            said("500 x", r#"{"message": "no such storage\n", "data": null}"#),
            ApiError::Refused("no such storage".into()),
        ),
        (
            said(
                "400 Parameter verification failed.",
                r#"{"errors": {"memory": "value must be at least 16\n"}, "data": null}"#,
            ),
            ApiError::Parameters("Parameter verification failed.; memory: value must be at least 16".into()),
        ),
        (said("401 No ticket", ""), ApiError::Unauthorized),
        (
            said("403 Permission check failed (/vms/1, VM.Audit)", ""),
            ApiError::Forbidden("Permission check failed (/vms/1, VM.Audit)".into()),
        ),
        (said("596 ssl3_get_server_certificate", ""), ApiError::NodeAway("ssl3_get_server_certificate".into())),
        (said("502 Bad Gateway", "<html>proxy</html>"), ApiError::Busy("HTTP status 502".into())),
    ] {
        assert_eq!(asked(answer, &get).await.0, Err(error));
    }
    let (result, _) = asked(said("200 OK", "<html>"), &get).await;
    assert!(matches!(result, Err(ApiError::Nonsense(_))), "{result:?}");
}

#[tokio::test]
async fn what_may_have_arrived_is_in_doubt_and_what_cannot_have_is_not() {
    let call = Call::new(Verb::Post, "/nodes/pve1/lxc").with("vmid", "101");
    for answer in [Answer::Drop, Answer::Hang, Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".into())] {
        let (result, _) = asked(answer, &call).await;
        let error = result.unwrap_err();
        assert!(error.is_in_doubt() && error.may_retry() && error.is_away(), "{error:?}");
        assert!(!error.to_string().contains("01234567-89ab"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(Vec::new()).await;
    // Nobody listens there.
    server.url = "https://127.0.0.1:1".to_owned();
    let client = client(&server, Trust::Insecure, folder.path());
    let error = client.call(&call).await.unwrap_err();
    assert!(!error.is_in_doubt() && error.is_away(), "{error:?}");
}

#[tokio::test]
async fn a_read_is_tried_again_and_a_write_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(vec![Answer::Drop, said("500 got timeout", ""), said("200 OK", r#"{"data": 7}"#)]).await;
    let client = client(&server, Trust::Pinned(server.fingerprint), folder.path());
    assert_eq!(client.get("/version").await, Ok(Value::from(7)));
    for _ in 0..3 {
        assert!(server.requests.recv().await.unwrap().starts_with("GET /api2/json/version"));
    }
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn trust_is_by_ca_or_pin_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let fine = || said("200 OK", r#"{"data": 1}"#);
    let mut server = serve(vec![fine(), fine(), fine(), fine(), fine(), fine()]).await;
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &server.ca).unwrap();
    let other = folder.path().join("other.pem");
    fs::write(&other, serve(Vec::new()).await.ca).unwrap();
    let call = Call::new(Verb::Get, "/version");
    for trust in [Trust::CaFile(ca), Trust::Pinned(server.fingerprint), Trust::Insecure] {
        let client = client(&server, trust.clone(), folder.path());
        assert_eq!(client.call(&call).await, Ok(Value::from(1)), "{trust:?}");
        server.requests.recv().await.unwrap();
    }
    for (trust, why) in [
        (Trust::CaFile(other), "certificate"),
        (Trust::Pinned([7; 32]), "another fingerprint"),
        (Trust::System, "certificate"),
    ] {
        let client = client(&server, trust, folder.path());
        let error = client.call(&call).await.unwrap_err();
        assert!(error.to_string().contains(why) && !error.is_in_doubt(), "{error:?}");
    }
    assert!(server.requests.try_recv().is_err(), "nothing was sent, and so no token");
}

#[tokio::test]
async fn the_token_shows_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(Vec::new()).await;
    let shown = format!("{:?}", client(&server, Trust::Insecure, folder.path()));
    assert!(!shown.contains("01234567-89ab"), "{shown}");
    let call = Call::new(Verb::Post, "/nodes/pve1/lxc").with("vmid", "101").with("password", "swordfish");
    assert_eq!(format!("{call:?}"), r#"POST /nodes/pve1/lxc {"vmid": "101", "password": "[redacted]"}"#);
}

#[tokio::test]
async fn as_many_calls_are_under_way_as_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let Answer::Bytes(bytes) = said("200 OK", r#"{"data": 1}"#) else { unreachable!() };
    let server = serve(vec![Answer::Together(bytes); PARALLEL]).await;
    let mut client = client(&server, Trust::Pinned(server.fingerprint), folder.path());
    client.read = Duration::from_secs(10);
    let call = Call::new(Verb::Get, "/version");
    let calls = (0..PARALLEL).map(|_| client.call(&call));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == Ok(Value::from(1))), "{answers:?}");
}
