//! Probes of gRPC servers.

use quorate_api::health::health_server::{Health, HealthServer};
use quorate_api::health::{HealthCheckRequest, HealthCheckResponse};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;

/// Knows the whole server, which serves, and services that are called as they are; others are not
/// known.
#[derive(Debug)]
struct Known;

#[tonic::async_trait]
impl Health for Known {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let agent = request.metadata().get("user-agent").map(|agent| agent.to_str().unwrap());
        assert!(agent.is_some_and(|agent| agent.starts_with("Quorate/")), "{agent:?}");
        let status = match request.into_inner().service.as_str() {
            "" | "serves" => 1,
            "silent" => std::future::pending().await,
            "starts" => 0,
            "full" => 2,
            "new" => 77,
            "busy" => return Err(Status::resource_exhausted("come back \u{1b}[2J later")),
            "chatty" => return Err(Status::internal("x".repeat(60_000))),
            _ => return Err(Status::not_found("unknown service")),
        };
        Ok(Response::new(HealthCheckResponse { status }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    /// No check asks for it.
    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("checks don't watch"))
    }
}

/// A gRPC server with this health service.
async fn server() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(HealthServer::new(Known))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    address
}

/// What lies between a client and this server: it speaks TLS, and takes it off.
async fn behind_tls(mut acceptor: ServerConfig, server: SocketAddr) -> SocketAddr {
    acceptor.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(acceptor));
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut inside = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut inside).await;
            }
        }
    });
    address
}

async fn asked(address: SocketAddr, keys: &str) -> Outcome {
    tried(&target(address, &format!("type = \"grpc\"{keys}"))).await
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) => reason,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_grpc_server_is_up_while_its_health_says_that_it_serves() {
    let server = server().await;
    assert_eq!(asked(server, "").await, Outcome::Passed);
    assert_eq!(asked(server, ", service = \"serves\"").await, Outcome::Passed);
    for (service, words) in [
        ("starts", "service \"starts\" is UNKNOWN: its program has not said yet"),
        ("full", "service \"full\" is NOT_SERVING: it answers, and says that it takes no requests"),
        ("new", "service \"new\" has status 77, not SERVING"),
        (
            "absent",
            "the health of service \"absent\" is not told, NOT_FOUND \"unknown service\": set \
             `service` of the check to a name that it registers",
        ),
        (
            "busy",
            "the health of service \"busy\" is not told, RESOURCE_EXHAUSTED \"come back \\u{1b}[2J",
        ),
    ] {
        let reason = reason(asked(server, &format!(", service = \"{service}\"")).await);
        assert!(reason.starts_with(words), "{reason}");
    }
    // More than a check reads of an answer's head.
    let reason = reason(asked(server, ", service = \"chatty\"").await);
    assert!(reason.len() < 300, "{reason}");
}

#[tokio::test]
async fn a_server_without_a_health_service_is_down_and_says_so() {
    let (listener, address) = listener().await;
    let other = tonic::service::Routes::default();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(other)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let reason = reason(asked(address, "").await);
    assert!(reason.contains("UNIMPLEMENTED: it has no health service"), "{reason}");
}

#[tokio::test]
async fn a_grpc_server_is_asked_by_tls_where_the_check_says_so() {
    let authority = Authority::new();
    let plain = server().await;
    let config = |valid| authority.config(&["rpc.example.com"], valid, false);
    let secured = behind_tls(config(true), plain).await;
    let trusted = format!(", tls = true, verify = true, ca = \"{}\"", authority.file("ca.pem"));
    assert_eq!(asked(secured, ", tls = true").await, Outcome::Passed);
    let named = format!("{trusted}, host = \"rpc.example.com:8443\"");
    assert_eq!(asked(secured, &named).await, Outcome::Passed);
    let reason_of = |outcome| reason(outcome);
    let unnamed = reason_of(asked(secured, &trusted).await);
    assert!(unnamed.contains("not valid for name"), "{unnamed}");
    let expired = behind_tls(config(false), plain).await;
    let expired = reason_of(asked(expired, &named).await);
    assert!(expired.starts_with("TLS was not established: ") && expired.contains("expired"));
    // The wrong way round.
    let in_clear = reason_of(asked(secured, "").await);
    assert!(in_clear.ends_with("(a server by TLS needs tls = true)"), "{in_clear}");
    let by_tls = reason_of(asked(plain, ", tls = true").await);
    assert!(by_tls.starts_with("TLS was not established"), "{by_tls}");
}

#[tokio::test]
async fn what_is_no_grpc_server_fails_with_what_it_does_instead() {
    let server = server().await;
    let silent = asked(server, ", service = \"silent\", timeout = \"200ms\"").await;
    assert_eq!(silent, failed("connected, but no answer within 200ms"));
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(asked(gone, "").await, failed("connection refused: nothing listens"));
    for (says, words) in [
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "no answer by HTTP/2: "),
        ("", "the connection"),
    ] {
        let (listener, address) = listener().await;
        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            let _ = stream.write_all(says.as_bytes()).await;
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        };
        let (outcome, ()) = tokio::join!(asked(address, ""), serves);
        let reason = reason(outcome);
        assert!(reason.starts_with(words), "{reason}");
    }
}
