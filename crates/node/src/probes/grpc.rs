//! Asking a gRPC server for its health (the gRPC Health Checking Protocol), over one connection of
//! HTTP/2 for each try. Tests: `probes/tests/grpc.rs`.

use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use hyper::Request;
use hyper::client::conn::http2;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::http::uri::{Scheme, Uri};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use quorate_api::health::HealthCheckRequest;
use quorate_api::health::health_client::HealthClient;
use quorate_model::spec::{GrpcCheck, Tls};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;

use super::Failure;
use super::connect::{self, Place};
use super::http::{AGENT, Progress, host_of, secure, server_name};
use super::tls::{Clients, Protocol};
use crate::patience::within;

/// Longest answer that is read: a health has two bytes.
const ANSWER_BYTES_MAX: usize = 1_024;
/// Most that the heads of an answer may have, and what may be on its way unread.
const HEAD_BYTES_MAX: u32 = 16 * 1_024;
const WINDOW_BYTES: u32 = 65_535;
/// How long a connection whose answer is there may take to close as HTTP/2 has it.
const GOODBYE_MAX: Duration = Duration::from_millis(100);

/// Asks for the health of the check's service, and says what was wrong with it.
pub(super) async fn ask(
    check: &GrpcCheck,
    place: &Place<'_>,
    timeout: Duration,
    clients: &Clients,
) -> Result<(), Failure> {
    // Reading files is not the real server's time.
    let client = match &check.tls {
        Some(tls) => Some((tls, clients.of(tls, Protocol::Http2).await.map_err(Failure::Here)?)),
        None => None,
    };
    let mut progress = Progress::Connecting;
    let asked = once(check, place, client, &mut progress);
    within(timeout, asked).await.unwrap_or_else(|over| {
        Err(Failure::over(over, || format!("{} within {timeout:?}", progress.missing())))
    })
}

async fn once(
    check: &GrpcCheck,
    place: &Place<'_>,
    client: Option<(&Tls, Arc<ClientConfig>)>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let scheme = if client.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let origin = Uri::builder()
        .scheme(scheme)
        .authority(host_of(check.host.as_deref(), place))
        .path_and_query("/")
        .build()
        .map_err(|error| Failure::Here(format!("no request can be made: {error}")))?;
    // The time limit is that of the whole.
    let stream = connect::tcp(place, Duration::MAX).await?;
    match client {
        None => {
            *progress = Progress::Waiting;
            exchange(check, origin, stream).await
        }
        Some((tls, client)) => {
            *progress = Progress::Securing;
            let name = server_name(tls, check.host.as_deref(), place)?;
            let stream = secure(TlsConnector::from(client), name, stream).await?;
            *progress = Progress::Waiting;
            exchange(check, origin, stream).await
        }
    }
}

/// Asks over a connection, and looks at the answer.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    check: &GrpcCheck,
    origin: Uri,
    stream: S,
) -> Result<(), Failure> {
    let works = Works::default();
    let opened = http2::Builder::new(works.0.clone())
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake::<_, Body>(TokioIo::new(stream));
    let (sender, connection) = opened.await.map_err(|error| broken(check, &error))?;
    let exchange = async {
        let service = tower::service_fn(move |mut request: Request<Body>| {
            request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
            sender.clone().send_request(request)
        });
        let mut health =
            HealthClient::with_origin(service, origin).max_decoding_message_size(ANSWER_BYTES_MAX);
        match health.check(HealthCheckRequest { service: check.service.clone() }).await {
            Ok(answer) => check.judge(answer.into_inner().status).map_err(Failure::Server),
            Err(status) => Err(unanswered(check, &status)),
        }
    };
    match select(pin!(exchange), Box::pin(connection)).await {
        Either::Left((judged, connection)) => {
            // Nobody has its sender any more, so it ends; once it is gone, its works say goodbye.
            let goodbye = async {
                let _ = connection.await;
                works.end().await;
            };
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
            judged
        }
        // It is over, well or not: whoever waits for an answer is told.
        Either::Right((_, exchange)) => exchange.await,
    }
}

/// What an operator should read of a call that has no answer.
fn unanswered(check: &GrpcCheck, status: &Status) -> Failure {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return broken(check, error);
        }
        cause = error.source();
    }
    Failure::Server(check.unanswered(i32::from(status.code()), status.message()))
}

/// What an operator should read where the connection failed.
fn broken(check: &GrpcCheck, error: &hyper::Error) -> Failure {
    let mut root: &(dyn Error + 'static) = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let advice = match check.tls {
        Some(_) => "",
        None => " (a server by TLS needs tls = true)",
    };
    Failure::Server(match root.downcast_ref::<std::io::Error>() {
        Some(error) => format!("the connection failed: {error}{advice}"),
        None if root.is::<hyper::Error>() => {
            format!("the connection was closed before the answer was there{advice}")
        }
        None => format!("no answer by HTTP/2: {root}{advice}"),
    })
}

/// What a connection runs beside the one that is awaited: it ends with the try, at the latest.
#[derive(Debug, Default)]
struct Works(Spawner);

/// Takes a connection's works.
#[derive(Debug, Clone, Default)]
struct Spawner(Arc<Mutex<JoinSet<()>>>);

impl Works {
    /// Waits for those that there are.
    async fn end(&self) {
        let mut works = self.0.take();
        while works.join_next().await.is_some() {}
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        // Each of them has its spawner, so that the set would not go by itself.
        drop(self.0.take());
    }
}

impl Spawner {
    fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
    }
}
