//! Real servers that fail in every way, and how three directors' probes see them: as configured, on
//! each director, with a reason that says what to do. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_api::health::health_check_response::ServingStatus;
use quorate_api::health::health_server::HealthServer;
use quorate_api::health::{HealthCheckRequest, HealthCheckResponse};
use quorate_tests::lab::deployment::Deployment;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio_stream::wrappers::TcpListenerStream;

const DIRECTORS: [&str; 3] = ["d1", "d2", "d3"];
const LIMIT: Duration = Duration::from_secs(60);
/// The host of all real servers, which have a port each.
const SERVER: (&str, &str) = ("rs1", "192.168.10.16");

/// How a real server answers a connection.
type Answer = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// Real servers that run until it is dropped.
#[derive(Default)]
struct Servers {
    ends: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

/// A listener of the host of all real servers, which never waits.
fn listen(deployment: &Deployment, port: u16) -> TcpListener {
    let namespace = deployment.network().namespace(SERVER.0).unwrap();
    let bind = || TcpListener::bind(("0.0.0.0", port)).unwrap();
    let listener = namespace.enter(bind).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

impl Servers {
    fn start(&mut self, deployment: &Deployment, port: u16, answer: Answer) {
        let listener = listen(deployment, port);
        let ends = Arc::clone(&self.ends);
        self.running.push(std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    answer(stream);
                });
            }
        }));
    }
}

/// Serves for one service, and for no other.
struct Health;

#[tonic::async_trait]
impl quorate_api::health::health_server::Health for Health {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let serves = request.into_inner().service == "shop.Cart";
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("checks don't watch"))
    }
}

impl Servers {
    /// A gRPC server.
    fn start_grpc(&mut self, deployment: &Deployment, port: u16) {
        let listener = listen(deployment, port);
        let ends = Arc::clone(&self.ends);
        self.running.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let ended = async {
                    while !ends.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                let server = tonic::transport::Server::builder()
                    .add_service(HealthServer::new(Health))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    served = server => served.unwrap(),
                    () = ended => {}
                }
            });
        }));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        for running in self.running.drain(..) {
            let _ = running.join();
        }
    }
}

/// Reads the head of a request, then says this.
fn say(stream: &mut (impl Read + Write), text: &str) {
    let mut lines = BufReader::new(&mut *stream);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        line.clear();
    }
    // Who gave up does not hear it.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn saying(text: &'static str) -> Answer {
    Arc::new(move |mut stream| say(&mut stream, text))
}

/// Begins to answer, and goes on for ever.
fn hanging() -> Answer {
    Arc::new(|mut stream| {
        say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf");
        // Until the director gives up.
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

fn resetting() -> Answer {
    Arc::new(|stream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    })
}

/// Well and not well in turn, by the number of probes: five of each.
fn flapping(probes: Arc<AtomicUsize>) -> Answer {
    Arc::new(move |mut stream| {
        let turn = probes.fetch_add(1, Ordering::SeqCst) / (5 * DIRECTORS.len());
        say(&mut stream, if turn.is_multiple_of(2) { PAGE } else { UNAVAILABLE });
    })
}

/// Answers by TLS, with a certificate that was good until 2021; its authority is in `folder`.
fn expired(folder: &Path) -> Answer {
    let mut of = rcgen::CertificateParams::new(Vec::new()).unwrap();
    of.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(of, key).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let mut of = rcgen::CertificateParams::new(vec![SERVER.1.to_owned()]).unwrap();
    of.not_before = rcgen::date_time_ymd(2020, 1, 1);
    of.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = of.signed_by(&key, &authority).unwrap();
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
    let config = Arc::new(config);
    Arc::new(move |mut stream| {
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        say(&mut rustls::Stream::new(&mut session, &mut stream), PAGE);
    })
}

/// State and reason of each real server by its port, as a director sees them.
fn seen_by(deployment: &Deployment, director: &str) -> BTreeMap<u16, (String, String)> {
    let told = deployment.quorate(director, &["services", "-o", "json"]).unwrap();
    let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
    let servers = told["services"][0]["real_servers"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |server: &Value| {
        let port = text(&server["address"]).rsplit(':').next().and_then(|port| port.parse().ok());
        (port.unwrap_or_default(), (text(&server["state"]), text(&server["reason"])))
    };
    servers.iter().map(of).collect()
}

/// What each real server has to be seen as, with the beginning of the reason.
fn wait_for_all(deployment: &Deployment, expected: &[(u16, &str, &str)]) {
    let mut last = BTreeMap::new();
    let as_expected = |director: &&str, last: &mut BTreeMap<_, _>| {
        *last = seen_by(deployment, director);
        expected.iter().all(|(port, state, reason)| {
            last.get(port).is_some_and(|seen| seen.0 == *state && seen.1.starts_with(reason))
        })
    };
    let waited = deployment.wait_for("each real server is seen as it is", LIMIT, |_| {
        Ok(DIRECTORS.iter().all(|director| as_expected(director, &mut last)))
    });
    assert!(waited.is_ok(), "{waited:?}: {last:#?}");
}

/// A service with a real server for each way to fail, and checks that tell them.
fn every_failure(state: &Path, ca: &Path) -> String {
    let mut configuration = String::from(
        "group.web = { interface = \"public\", addresses = [\"192.168.10.180/32\"] }\n\
         [check.page]\ntype = \"http\"\npath = \"/health\"\ninterval = \"200ms\"\n\
         timeout = \"500ms\"\nretry = 1\nretry_delay = \"100ms\"\n\
         [check.damped]\ntype = \"http\"\ninterval = \"50ms\"\nretry = 0\nfall = 2\nrise = 20\n\
         [check.cart]\ntype = \"grpc\"\nservice = \"shop.Cart\"\ninterval = \"200ms\"\nretry = 0\n\
         [check.open]\ntype = \"tcp\"\ninterval = \"200ms\"\n",
    );
    write!(
        configuration,
        "[check.state]\ntype = \"file\"\npath = {state:?}\ninterval = \"50ms\"\nretry = 0\n"
    )
    .unwrap();
    for (name, verify) in [
        ("known", format!("verify = true\nca = \"{}\"", ca.display())),
        ("unknown", "verify = false".to_owned()),
    ] {
        write!(
            configuration,
            "[check.{name}]\ntype = \"https\"\ninterval = \"200ms\"\nretry = 0\n{verify}\n"
        )
        .unwrap();
    }
    configuration += "[service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\n\
                      forward = \"NAT\"\ncheck = \"page\"\nreal_servers = [\n";
    let own = [(8001, ""), (8002, ""), (8003, ""), (8004, ""), (8005, "known"), (8006, "damped")];
    let nobody = [(8007, "")];
    for (port, check) in own.into_iter().chain(nobody).chain([(8010, "cart"), (8011, "state")]) {
        let check = if check.is_empty() { String::new() } else { format!(", check = \"{check}\"") };
        writeln!(configuration, "  {{ address = \"{}:{port}\"{check} }},", SERVER.1).unwrap();
    }
    configuration += "]\n";
    configuration
}

#[test]
fn each_failing_real_server_is_treated_as_configured_on_every_director_with_its_reason() {
    let deployment = Deployment::of_three("lab_host_probes", "lan", 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut servers = Servers::default();
    let probes = Arc::new(AtomicUsize::new(0));
    let answers: [(u16, Answer); 6] = [
        (8001, saying(PAGE)),
        (8002, saying(UNAVAILABLE)),
        (8003, hanging()),
        (8004, resetting()),
        (8005, expired(folder.path())),
        (8006, flapping(Arc::clone(&probes))),
    ];
    for (port, answer) in answers {
        servers.start(&deployment, port, answer);
    }
    servers.start_grpc(&deployment, 8010);
    // One file for all directors, which run on one host here.
    let state = folder.path().join("state");
    std::fs::write(&state, "0\n").unwrap();
    let configuration = every_failure(&state, &folder.path().join("ca.pem"));
    deployment.apply("d1", &configuration).unwrap();
    wait_for_all(
        &deployment,
        &[
            (8001, "up", ""),
            (8002, "down", "GET /health: status 503 Service Unavailable, not 200-299"),
            (8003, "down", "GET /health: the answer began (4 bytes), but did not end within 500ms"),
            (8004, "down", "GET /health: the connection"),
            (
                8005,
                "down",
                "GET /: TLS was not established: invalid peer certificate: certificate expired",
            ),
            (8006, "down", "GET /: status 503"),
            (8007, "down", "GET /health: connection refused: nothing listens"),
            (8010, "up", ""),
            (8011, "up", ""),
        ],
    );
    std::fs::write(&state, "1\n").unwrap();
    let says = format!("{} says 1, not 0", state.display());
    wait_for_all(&deployment, &[(8011, "down", &says)]);
    std::fs::remove_file(&state).unwrap();
    let gone = format!("{} can't be read: No such file", state.display());
    wait_for_all(&deployment, &[(8011, "down", &gone)]);
    // It goes on flapping, and no director takes it back.
    let seen = probes.load(Ordering::SeqCst);
    while probes.load(Ordering::SeqCst) < seen + 40 * DIRECTORS.len() {
        for director in DIRECTORS {
            assert_eq!(seen_by(&deployment, director)[&8006].0, "down");
        }
    }
    // By other checks the same real servers are up: that they accept, and whoever answers by TLS.
    let lenient = configuration.replace("check = \"page\"", "check = \"open\"");
    let lenient = lenient.replace("shop.Cart", "shop.Stock");
    let lenient = lenient.replace("check = \"known\"", "check = \"unknown\"");
    deployment.apply("d1", &lenient).unwrap();
    let up = [8001, 8002, 8003, 8004, 8005].map(|port| (port, "up", ""));
    wait_for_all(&deployment, &up);
    // And who serves one service does not another.
    let unserved = (8010, "down", "service \"shop.Stock\" is NOT_SERVING");
    wait_for_all(&deployment, &[unserved]);
}

/// One that comes and goes is held down by `damp` on every director, however well it is since.
#[test]
fn a_real_server_that_went_down_too_often_is_held_down_on_every_director_and_status_says_why() {
    let deployment = Deployment::of_three("lab_host_probes_damp", "lan", 1).unwrap();
    let mut servers = Servers::default();
    let (well, probes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let answer = {
        let (well, probes) = (Arc::clone(&well), Arc::clone(&probes));
        move |mut stream| {
            probes.fetch_add(1, Ordering::SeqCst);
            say(&mut stream, if well.load(Ordering::SeqCst) { PAGE } else { UNAVAILABLE });
        }
    };
    servers.start(&deployment, 8006, Arc::new(answer));
    let configuration = "group.web = { interface = \"public\", addresses = [\"192.168.10.180/32\"] }\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\nforward = \"NAT\"\n\
         real_servers = [{ address = \"192.168.10.16:8006\" }]\n\
         [service.web.check]\ntype = \"http\"\ninterval = \"50ms\"\nretry = 0\n\
         damp = { flaps = 2, within = \"20m\", hold = \"30m\" }\n";
    deployment.apply("d1", configuration).unwrap();
    for _ in 0..2 {
        wait_for_all(&deployment, &[(8006, "up", "")]);
        well.store(false, Ordering::SeqCst);
        wait_for_all(&deployment, &[(8006, "down", "GET /: status 503")]);
        well.store(true, Ordering::SeqCst);
    }
    let held = "GET /: status 503 Service Unavailable, not 200-299; held down for 30m: it went down 2 times \
                within 20m";
    let seen = probes.load(Ordering::SeqCst);
    while probes.load(Ordering::SeqCst) < seen + 40 * DIRECTORS.len() {
        wait_for_all(&deployment, &[(8006, "down", held)]);
    }
}
