//! Asking an HTTP server, and looking at what it answers (RFC 9112).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use quorate_model::spec::{
    BodyDigest, HttpCheck, HttpMethod, HttpRequest, HttpVersion, Matcher, Pattern, Tls,
};
use ring::digest::{Context, SHA256};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Failure;
use super::connect::{self, Place};
use super::tls::{Clients, Protocol};
use crate::patience::within;

pub(super) const AGENT: &str = concat!("Quorate/", env!("CARGO_PKG_VERSION"));
/// Most of a body in which a pattern is looked for.
const SEARCHED_BYTES_MAX: usize = 1024 * 1024;
/// Compiled patterns that are kept.
const PATTERNS_MAX: usize = 1_024;

/// Asks for each of the check's urls, and says what was wrong with the first bad answer.
pub(super) async fn ask(
    check: &HttpCheck,
    place: &Place<'_>,
    timeout: Duration,
    (clients, patterns): (&Clients, &Patterns),
) -> Result<(), Failure> {
    // Reading files is not the real server's time.
    let client = match &check.tls {
        Some(tls) => Some((tls, clients.of(tls, Protocol::Http1).await.map_err(Failure::Here)?)),
        None => None,
    };
    for request in &check.requests {
        let mut progress = Progress::Connecting;
        let asked = Asked { version: check.version, request, place, patterns };
        let asked = asked.once(client.clone(), &mut progress);
        let outcome = within(timeout, asked).await.unwrap_or_else(|over| {
            Err(Failure::over(over, || format!("{} within {timeout:?}", progress.missing())))
        });
        outcome.map_err(|failure| match failure {
            Failure::Server(reason) => {
                Failure::Server(format!("{} {}: {reason}", request.method.word(), request.path))
            }
            here @ Failure::Here(_) => here,
        })?;
    }
    Ok(())
}

/// How far a request came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Progress {
    Connecting,
    Securing,
    Waiting,
    Reading(u64),
}

impl Progress {
    pub(super) fn missing(self) -> String {
        match self {
            Self::Connecting => "no answer to a TCP connection".to_owned(),
            Self::Securing => "connected, but TLS was not established".to_owned(),
            Self::Waiting => "connected, but no answer".to_owned(),
            Self::Reading(bytes) => format!("the answer began ({bytes} bytes), but did not end"),
        }
    }
}

/// What is asked, and where.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    version: HttpVersion,
    request: &'a HttpRequest,
    place: &'a Place<'a>,
    patterns: &'a Patterns,
}

impl Asked<'_> {
    async fn once(
        self,
        client: Option<(&Tls, Arc<ClientConfig>)>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        // The time limit is that of the whole.
        let stream = connect::tcp(self.place, Duration::MAX).await?;
        match client {
            None => self.exchange(stream, progress).await,
            Some((tls, client)) => {
                *progress = Progress::Securing;
                let name = server_name(tls, self.request.host.as_deref(), self.place)?;
                let stream = secure(TlsConnector::from(client), name, stream).await?;
                self.exchange(stream, progress).await
            }
        }
    }

    /// Sends the request and looks at the answer.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        *progress = Progress::Waiting;
        let made = made(self.version, self.request, self.place)?;
        let opened = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
        let (mut sender, connection) = opened.await.map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(made).await.map_err(|error| broken(&error))?;
            judge(self.request, response, self.patterns, progress).await
        };
        let exchange = pin!(exchange);
        match select(exchange, pin!(connection)).await {
            Either::Left((judged, _)) => judged,
            // It is over, well or not: whoever waits for an answer or for the rest of it is told, and
            // an answer that is whole counts, whatever came of the connection after it.
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}

pub(super) async fn secure(
    connector: TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let secured = connector.connect(name, stream).await;
    secured.map_err(|error| Failure::Server(format!("TLS was not established: {error}")))
}

/// What the server is told it is called, and what its certificate has to be for.
pub(super) fn server_name(
    tls: &Tls,
    host: Option<&str>,
    place: &Place<'_>,
) -> Result<ServerName<'static>, Failure> {
    if let Some(name) = &tls.sni {
        return ServerName::try_from(name.clone())
            .map_err(|_| Failure::Here(format!("sni = {name:?} is not the name of a server")));
    }
    let host = host.map(without_port);
    let named = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    Ok(named.unwrap_or_else(|| ServerName::IpAddress(place.to.ip().into())))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What the server is called where it is asked: as the check says, or by where it is.
pub(super) fn host_of(host: Option<&str>, place: &Place<'_>) -> String {
    match (host, place.to.port(), place.to.ip()) {
        (Some(host), ..) => host.to_owned(),
        (None, 80 | 443, IpAddr::V4(ip)) => ip.to_string(),
        (None, 80 | 443, IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ..) => place.to.to_string(),
    }
}

fn made(
    version: HttpVersion,
    request: &HttpRequest,
    place: &Place<'_>,
) -> Result<Request<Empty<Bytes>>, Failure> {
    let method = match request.method {
        HttpMethod::Get => hyper::Method::GET,
        HttpMethod::Head => hyper::Method::HEAD,
        HttpMethod::Options => hyper::Method::OPTIONS,
    };
    let version = match version {
        HttpVersion::Http10 => Version::HTTP_10,
        HttpVersion::Http11 => Version::HTTP_11,
    };
    Request::builder()
        .method(method)
        .uri(&request.path)
        .version(version)
        .header(HOST, host_of(request.host.as_deref(), place))
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::new())
        .map_err(|error| Failure::Here(format!("no request can be made: {error}")))
}

/// What an operator should read where the connection failed.
fn broken(error: &hyper::Error) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    let cause = cause.unwrap_or_default();
    Failure::Server(match error {
        error if error.is_incomplete_message() => {
            "the connection was closed before the answer was there".to_owned()
        }
        error if error.is_parse() => format!("the answer is not HTTP: {error}{cause}"),
        error => format!("the connection failed: {error}{cause}"),
    })
}

async fn judge(
    request: &HttpRequest,
    response: Response<Incoming>,
    patterns: &Patterns,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let status = response.status();
    if !request.status.has(status.as_u16()) {
        return Err(Failure::Server(format!("status {status}, not {}", request.status)));
    }
    let searched = request.body.is_some() || request.body_absent.is_some();
    let mut digest = request.digest.as_ref().map(Digesting::new);
    let mut text = Vec::new();
    let (mut body, mut bytes) = (response.into_body(), 0_u64);
    *progress = Progress::Reading(bytes);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        bytes = bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        *progress = Progress::Reading(bytes);
        if let Some(digest) = &mut digest {
            digest.update(data);
        }
        if searched {
            text.extend_from_slice(data);
        }
        if text.len() > SEARCHED_BYTES_MAX {
            let reason = "the answer has more than 1 MiB, and no pattern is looked for in so much";
            return Err(Failure::Server(reason.to_owned()));
        }
    }
    let wrong = |reason: String| Err(Failure::Server(reason));
    if let (Some(wanted), Some(digest)) = (&request.digest, digest) {
        let found = digest.finish();
        if found != *wanted {
            return wrong(format!("the body has {found}, not {wanted}"));
        }
    }
    if !searched {
        return Ok(());
    }
    let (with, without, patterns) =
        (request.body.clone(), request.body_absent.clone(), patterns.clone());
    // A hostile body may take its time, which is not that of the other probes and of Raft.
    let search = move || {
        let text = Bytes::from(text);
        let is_in = |pattern: &Pattern| patterns.compiled(pattern).map(|found| found.is_in(&text));
        if let Some(pattern) = with
            && !is_in(&pattern)?
        {
            return Ok(Some(format!("{:?} is not in the body of {bytes} bytes", pattern.as_str())));
        }
        match without {
            Some(pattern) if is_in(&pattern)? => {
                Ok(Some(format!("{:?} is in the body", pattern.as_str())))
            }
            _ => Ok(None),
        }
    };
    match tokio::task::spawn_blocking(search).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(reason))) => wrong(reason),
        Ok(Err(reason)) => Err(Failure::Here(reason)),
        Err(_) => Err(Failure::Here("the daemon is stopping".to_owned())),
    }
}

/// Patterns that were compiled, by their text.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Arc<Mutex<BTreeMap<String, Matcher>>>);

impl Patterns {
    fn compiled(&self, pattern: &Pattern) -> Result<Matcher, String> {
        // What it guards is put in whole: a panic elsewhere leaves it whole.
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all().get(pattern.as_str()) {
            return Ok(known.clone());
        }
        let compiled = pattern.compile()?;
        let mut all = all();
        if all.len() >= PATTERNS_MAX {
            all.clear();
        }
        all.insert(pattern.as_str().to_owned(), compiled.clone());
        Ok(compiled)
    }
}

/// The digest of a body that is still coming.
enum Digesting {
    Sha256(Context),
    Md5(Md5),
}

impl Digesting {
    fn new(wanted: &BodyDigest) -> Self {
        match wanted {
            BodyDigest::Sha256(_) => Self::Sha256(Context::new(&SHA256)),
            BodyDigest::Md5(_) => Self::Md5(Md5::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(context) => context.update(data),
            Self::Md5(state) => state.update(data),
        }
    }

    fn finish(self) -> BodyDigest {
        match self {
            Self::Sha256(context) => {
                let mut digest = [0; 32];
                let found = context.finish();
                for (to, from) in digest.iter_mut().zip(found.as_ref()) {
                    *to = *from;
                }
                BodyDigest::Sha256(digest)
            }
            Self::Md5(state) => BodyDigest::Md5(state.finalize().into()),
        }
    }
}
