//! Probes against servers that answer as the tests tell them to.

use std::net::SocketAddr;

use quorate_model::probe::Verdict;
use quorate_model::spec::{Format, parse};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::peer::tls::provider;

mod grpc;
mod others;

/// A target at this address, its check in the words of the configuration.
fn target(address: SocketAddr, check: &str) -> ProbeTarget {
    let text = format!(
        "group.g = {{ interface = \"lan\", addresses = [\"192.0.2.1\"] }}\n[service.s]\n\
         group = \"g\"\nlisten = \"tcp/192.0.2.1:80\"\nreal_servers = []\ncheck = {{ {check} }}\n"
    );
    let spec = parse(&text, Format::Toml).unwrap_or_else(|wrong| panic!("{wrong}"));
    let check = Arc::clone(&spec.services.values().next().unwrap().checks[0]);
    ProbeTarget { address, check, through: None }
}

fn probes() -> (Probes, mpsc::Receiver<Event>) {
    let (events, verdicts) = mpsc::channel(8);
    (Probes::new(BTreeMap::new(), events), verdicts)
}

/// One try, by a director whose interface lan is lo.
async fn tried(target: &ProbeTarget) -> Outcome {
    let devices = BTreeMap::from([("lan".parse().unwrap(), "lo".parse().unwrap())]);
    let probes = Probes::new(devices, mpsc::channel(1).0);
    attempt(target, &probes.shared, &mut Begun::default()).await
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// What becomes of one try of an http check at a server that sends these answers, each on a
/// connection of its own.
async fn asked(check: &str, answers: &[&str]) -> Outcome {
    let (listener, address) = listener().await;
    let target = target(address, check);
    let server = async {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            // Who has seen enough of it hangs up.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = tried(&target) => outcome,
        () = server => unreachable!("it goes on"),
    }
}

fn page(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.to_owned())
}

#[tokio::test]
async fn a_listener_is_up_and_goes_down_when_it_closes() {
    let (listener, address) = listener().await;
    let quick = "type = \"tcp\", interval = \"50ms\", retry = 1, retry_delay = \"10ms\"";
    let target = target(address, quick);
    let (mut probes, mut verdicts) = probes();
    probes.aim(&[target.clone()].into());
    let Some(Event::Verdict(of, verdict)) = verdicts.recv().await else { panic!("no verdict") };
    assert_eq!((of, verdict), (target, Verdict::Up));
    drop(listener);
    let Some(Event::Verdict(_, Verdict::Down(reason))) = verdicts.recv().await else {
        panic!("not down")
    };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_target_that_is_wanted_no_more_is_probed_no_more() {
    let (_listener, address) = listener().await;
    let target = target(address, "type = \"tcp\", interval = \"50ms\"");
    let (mut probes, mut verdicts) = probes();
    probes.aim(&[target].into());
    assert!(verdicts.recv().await.is_some());
    probes.aim(&BTreeSet::new());
    drop(probes);
    // Every sender is gone: the task has ended.
    assert!(verdicts.recv().await.is_none());
}

#[tokio::test]
async fn a_probe_comes_from_where_its_check_says() {
    let (listener, address) = listener().await;
    let from = "type = \"tcp\", source = \"127.0.0.9\", interface = \"lan\"";
    assert_eq!(tried(&target(address, from)).await, Outcome::Passed);
    assert_eq!(listener.accept().await.unwrap().1.ip().to_string(), "127.0.0.9");
    // Twice from one port: what is left of the first does not stand in the way.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let from = target(address, &format!("type = \"tcp\", source_port = {port}"));
    for _ in 0..2 {
        assert_eq!(tried(&from).await, Outcome::Passed);
        assert_eq!(listener.accept().await.unwrap().1.port(), port);
    }
}

#[tokio::test]
async fn what_this_director_can_not_try_says_nothing_of_the_real_server() {
    let (_listener, address) = listener().await;
    let not_here = tried(&target(address, "type = \"tcp\", source = \"192.0.2.77\"")).await;
    let Outcome::Untried(reason) = not_here else { panic!("{not_here:?}") };
    assert!(reason.contains("does not have its source address"), "{reason}");
    let no_device = tried(&target(address, "type = \"tcp\", interface = \"inside\"")).await;
    let Outcome::Untried(reason) = no_device else { panic!("{no_device:?}") };
    assert!(reason.contains("no device is named for interface inside"), "{reason}");
    let no_file = "type = \"https\", verify = true, ca = \"/no/such/ca.pem\"";
    let no_file = tried(&target(address, no_file)).await;
    let Outcome::Untried(reason) = no_file else { panic!("{no_file:?}") };
    assert!(reason.contains("/no/such/ca.pem can't be read"), "{reason}");
}

#[tokio::test]
async fn a_request_says_what_the_check_says() {
    let check = "type = \"http\", method = \"HEAD\", path = \"/a?b=c\", host = \"www.example.com\", \
                 version = \"1.0\"";
    let (listener, address) = listener().await;
    let target = target(address, check);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n").await.unwrap();
        head
    };
    let (outcome, head) = tokio::join!(tried(&target), server);
    assert_eq!(outcome, Outcome::Passed);
    assert!(head.starts_with("HEAD /a?b=c HTTP/1.0\r\n"), "{head}");
    let has = |line: &str| head.to_lowercase().contains(&format!("\r\n{line}\r\n"));
    assert!(has("host: www.example.com") && has("connection: close"), "{head}");
}

#[tokio::test]
async fn only_the_status_codes_that_are_good_pass() {
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    let unavailable = answer("503 Service Unavailable");
    let outcome = asked("type = \"http\", path = \"/health\"", &[&unavailable]).await;
    assert_eq!(outcome, failed("GET /health: status 503 Service Unavailable, not 200-299"));
    let codes = "type = \"http\", status = [\"300-399\", 503]";
    assert_eq!(asked(codes, &[&unavailable]).await, Outcome::Passed);
    assert_eq!(asked(codes, &[&answer("301 Moved")]).await, Outcome::Passed);
    let outcome = asked(codes, &[&answer("200 OK")]).await;
    assert_eq!(outcome, failed("GET /: status 200 OK, not 300-399,503"));
}

#[tokio::test]
async fn urls_are_asked_in_order_and_the_first_bad_answer_counts() {
    let urls = "type = \"http\", urls = [{ path = \"/a\" }, { path = \"/b\", status = 404 }]";
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(asked(urls, &[&page(""), missing]).await, Outcome::Passed);
    let outcome = asked(urls, &[&page(""), &page("")]).await;
    assert_eq!(outcome, failed("GET /b: status 200 OK, not 404"));
    let outcome = asked(urls, &[missing, missing]).await;
    assert_eq!(outcome, failed("GET /a: status 404 Not Found, not 200-299"));
}

#[tokio::test]
async fn a_body_has_its_digest_and_its_patterns() {
    // echo -n fine | sha256sum, and md5sum.
    let sha256 = "d14a58bae804a2b80b5b76a010239c88ffca1fc7951a90f8e9131beda1e23c1b";
    let md5 = "fff25994ee3941b225ba898fd17d186f";
    for (key, digest) in [("sha256", sha256), ("md5", md5)] {
        let check = format!("type = \"http\", {key} = \"{digest}\"");
        assert_eq!(asked(&check, &[&page("fine")]).await, Outcome::Passed);
        let outcome = asked(&check, &[&page("other")]).await;
        let Outcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
        assert!(reason.ends_with(&format!("not {key} {digest}")), "{reason}");
    }
    let with = "type = \"http\", body = \"(?i)all (is )?well\", body_absent = \"degraded\"";
    assert_eq!(asked(with, &[&page("All well")]).await, Outcome::Passed);
    let outcome = asked(with, &[&page("No")]).await;
    assert_eq!(outcome, failed("GET /: \"(?i)all (is )?well\" is not in the body of 2 bytes"));
    let outcome = asked(with, &[&page("all well, degraded")]).await;
    assert_eq!(outcome, failed("GET /: \"degraded\" is in the body"));
    let outcome = asked(with, &[&page(&"x".repeat(1024 * 1024 + 1))]).await;
    let Outcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("more than 1 MiB"), "{reason}");
}

/// The whole answer is waited for, and no longer than the check allows.
#[tokio::test]
async fn a_server_that_hangs_closes_or_resets_in_the_middle_is_told_apart() {
    let short = "type = \"http\", timeout = \"200ms\"";
    for (sent, reason) in [
        ("", "GET /: connected, but no answer within 200ms"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "GET /: the answer began (4 bytes), but did not end within 200ms",
        ),
    ] {
        let (listener, address) = listener().await;
        let target = target(address, short);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream
        };
        let (outcome, _open) = tokio::join!(tried(&target), server);
        assert_eq!(outcome, failed(reason));
    }
    let closed = "GET /: the connection was closed before the answer was there";
    assert_eq!(asked("type = \"http\"", &[""]).await, failed(closed));
    let outcome =
        asked("type = \"http\"", &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]).await;
    let Outcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("GET /: the connection"), "{reason}");
    let outcome = asked("type = \"http\"", &["220 mail.example.com ESMTP\r\n"]).await;
    let Outcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("GET /: the answer is not HTTP"), "{reason}");
    let (outcome, _) = reset().await;
    let Outcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("reset"), "{reason}");
}

/// A server that answers with a reset.
async fn reset() -> (Outcome, ()) {
    let (listener, address) = listener().await;
    let target = target(address, "type = \"http\"");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    tokio::join!(tried(&target), server)
}

/// A certificate authority, and files of it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut of = CertificateParams::new(Vec::new()).unwrap();
        of.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        of.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(of, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self, names: &[&str], valid: bool) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut of = CertificateParams::new(names).unwrap();
        of.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if !valid {
            of.not_before = rcgen::date_time_ymd(2020, 1, 1);
            of.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (of.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server of this certificate, that wants one of its clients or does not.
    fn server(&self, names: &[&str], valid: bool, clients: bool) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.config(names, valid, clients)))
    }

    fn config(&self, names: &[&str], valid: bool, clients: bool) -> ServerConfig {
        let (certificate, key) = self.issue(names, valid);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(self.issuer.der().clone()).unwrap();
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    head(&mut stream).await;
    let _ = stream.write_all(page("fine").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// One try of an https check at a server.
async fn by_tls(acceptor: &TlsAcceptor, check: &str) -> Outcome {
    let (listener, address) = listener().await;
    let target = target(address, &format!("type = \"https\", {check}"));
    let server = async {
        let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = acceptor.accept(stream).await {
            answer(stream).await;
        }
    };
    tokio::join!(tried(&target), server).0
}

#[tokio::test]
async fn a_certificate_is_looked_at_where_the_check_says_so() {
    let authority = Authority::new();
    let trusted = format!("verify = true, ca = \"{}\"", authority.file("ca.pem"));
    let good = authority.server(&["www.example.com", "127.0.0.1"], true, false);
    assert_eq!(by_tls(&good, "path = \"/\"").await, Outcome::Passed);
    assert_eq!(by_tls(&good, &trusted).await, Outcome::Passed);
    let named = format!("{trusted}, host = \"www.example.com:8443\"");
    assert_eq!(by_tls(&good, &named).await, Outcome::Passed);
    for (server, check, words) in [
        (&good, format!("{trusted}, sni = \"other.example.com\""), "not valid for name"),
        (&good, "verify = true".to_owned(), "UnknownIssuer"),
        (&authority.server(&["127.0.0.1"], false, false), trusted, "expired"),
    ] {
        let outcome = by_tls(server, &check).await;
        let Outcome::Failed(reason) = outcome else { panic!("{check}: {outcome:?}") };
        assert!(
            reason.starts_with("GET /: TLS was not established: ") && reason.contains(words),
            "{reason}"
        );
    }
    let expired = authority.server(&["127.0.0.1"], false, false);
    assert_eq!(by_tls(&expired, "path = \"/\"").await, Outcome::Passed, "nobody looks");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_the_checks() {
    let authority = Authority::new();
    let server = authority.server(&["127.0.0.1"], true, true);
    let (certificate, key) = authority.issue(&["director"], true);
    std::fs::write(authority.file("own.pem"), certificate.pem()).unwrap();
    std::fs::write(authority.file("own.key"), key.serialize_pem()).unwrap();
    let own = format!(
        "certificate = \"{}\", key = \"{}\"",
        authority.file("own.pem"),
        authority.file("own.key")
    );
    assert_eq!(by_tls(&server, &own).await, Outcome::Passed);
    let outcome = by_tls(&server, "path = \"/\"").await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}
