//! The services that a listener serves, whoever may call there: `Admin`, and what programs expect beside it,
//! the standard health service and server reflection. Tests: below.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use quorate_api::health::health_check_response::ServingStatus;
use quorate_api::health::health_server::{Health, HealthServer};
use quorate_api::health::{HealthCheckRequest, HealthCheckResponse};
use quorate_api::v1::admin_server::AdminServer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use super::admin::AdminService;
use super::error::{Kind, error};
use crate::node::Node;

/// Largest request and answer: a configuration of 10 MiB and its envelope.
const REQUEST_BYTES_MAX: usize = 11 << 20;
/// Largest question to the other services: a name.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// Clients of one listener that watch the health at a time.
const WATCHERS_MAX: usize = 64;
/// How often the health is looked at while somebody watches it: the director composes a view for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The service whose health is that of this node's part in the cluster.
const ADMIN: &str = "quorate.v1.Admin";

/// Everything that is served to those whom `identify` lets through.
pub(super) fn router<I>(node: Arc<Node>, identify: I) -> Router
where
    I: Interceptor + Clone + Send + Sync + 'static,
{
    let health = HealthServer::new(HealthService::start(Arc::clone(&node)))
        .max_decoding_message_size(QUESTION_BYTES_MAX);
    let admin = AdminServer::new(AdminService::new(node))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_api::DESCRIPTORS)
        .build_v1();
    let reflection = match reflection {
        Ok(server) => {
            let server = server.max_decoding_message_size(QUESTION_BYTES_MAX);
            Some(InterceptedService::new(server, identify.clone()))
        }
        // The rest of the API does not depend on it.
        Err(cause) => {
            tracing::error!(%cause, "server reflection is not served: report this as a bug");
            None
        }
    };
    Server::builder()
        .add_service(InterceptedService::new(admin, identify.clone()))
        .add_service(InterceptedService::new(health, identify))
        .add_optional_service(reflection)
}

/// The health service: "" is the daemon, which serves if it answers; `ADMIN` is this node's part in the
/// cluster, by the same rule as `/healthz`, and with a leader that it knows.
#[derive(Debug)]
struct HealthService {
    node: Arc<Node>,
    /// Of `ADMIN`; kept up to date while somebody watches.
    admin: watch::Sender<ServingStatus>,
    places: Arc<Semaphore>,
}

impl HealthService {
    fn start(node: Arc<Node>) -> Self {
        let admin = watch::Sender::new(ServingStatus::NotServing);
        tokio::spawn(keep(Arc::clone(&node), admin.clone()));
        Self { node, admin, places: Arc::new(Semaphore::new(WATCHERS_MAX)) }
    }
}

async fn keep(node: Arc<Node>, admin: watch::Sender<ServingStatus>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if admin.receiver_count() > 0 {
            publish(&admin, part_in_cluster(&node).await);
        }
    }
}

async fn part_in_cluster(node: &Node) -> ServingStatus {
    let Some(member) = node.member() else { return ServingStatus::NotServing };
    let led = member.raft.status().borrow().leader.is_some();
    // A director that does not answer serves nobody.
    match tokio::time::timeout(2 * LOOK_EVERY, member.view()).await {
        Ok(Ok(view)) if led && view.quorate => ServingStatus::Serving,
        Ok(Ok(_) | Err(_)) | Err(_) => ServingStatus::NotServing,
    }
}

fn publish(to: &watch::Sender<ServingStatus>, status: ServingStatus) {
    to.send_if_modified(|known| std::mem::replace(known, status) != status);
}

type Answers = BoxStream<'static, Result<HealthCheckResponse, Status>>;

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// How it is, and then each change. A client that takes nothing is told the newest when it does.
fn follow(receiver: watch::Receiver<ServingStatus>, place: OwnedSemaphorePermit) -> Answers {
    let next = |(mut receiver, place, first): (watch::Receiver<ServingStatus>, _, bool)| async move {
        if !first {
            receiver.changed().await.ok()?;
        }
        let status = *receiver.borrow_and_update();
        Some((Ok(answer(status)), (receiver, place, false)))
    };
    stream::unfold((receiver, place, true), next).boxed()
}

/// What never changes; the stream stays open, as the protocol wants it.
fn constant(status: ServingStatus, place: OwnedSemaphorePermit) -> Answers {
    let stays = stream::iter([Ok(answer(status))]).chain(stream::pending());
    stays
        .map(move |answer| {
            let _held = &place;
            answer
        })
        .boxed()
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = match request.get_ref().service.as_str() {
            "" => ServingStatus::Serving,
            ADMIN => part_in_cluster(&self.node).await,
            // The code that the protocol names; it is no error of the cluster's.
            _ => return Err(Status::not_found("no such service")),
        };
        Ok(Response::new(answer(status)))
    }

    type WatchStream = Answers;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Answers>, Status> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = "too many clients watch the health here already: ask another node";
            return Err(error(Kind::Refused, text));
        };
        Ok(Response::new(match request.get_ref().service.as_str() {
            "" => constant(ServingStatus::Serving, place),
            ADMIN => {
                let receiver = self.admin.subscribe();
                publish(&self.admin, part_in_cluster(&self.node).await);
                follow(receiver, place)
            }
            _ => constant(ServingStatus::ServiceUnknown, place),
        }))
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use quorate_api::failure;
    use quorate_api::health::health_client::HealthClient;
    use quorate_api::v1::admin_client::AdminClient;
    use quorate_api::v1::{ApplyRequest, ErrorCode};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tonic::Code;
    use tonic::transport::{Endpoint, Uri};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;
    use crate::api::local;
    use crate::config;
    use crate::raft::store::lock::DataDirectory;

    const ALONE: &str = "name = \"w1\"\nrole = \"witness\"\n\
                         link = [{ name = \"lan\", listen = \"127.0.0.1:7400\" }]\n";

    #[tokio::test]
    async fn a_program_finds_services_health_and_errors_with_details_over_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::lock(&folder.path().join("data")).unwrap();
        let (fatal, _ended) = mpsc::channel(1);
        let node = Node::new(config::parse(ALONE).unwrap(), data, None, fatal);
        let path = folder.path().join("quorate.sock");
        let listener = local::bind(&path).await.unwrap();
        let daemon = tokio::spawn(local::serve(listener, node));
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://quorate");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();

        let mut reflection = ServerReflectionClient::new(channel.clone());
        let questions = [
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("quorate.v1.ErrorDetail".to_owned()),
            MessageRequest::FileContainingSymbol("quorate.peer.v1.Peer".to_owned()),
        ];
        let questions = questions.map(|question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        });
        let answers = reflection.server_reflection_info(stream::iter(questions)).await.unwrap();
        let mut answers = answers.into_inner();
        let listed = match answers.message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service,
            _ => Vec::new(),
        };
        let mut names: Vec<String> = listed.into_iter().map(|service| service.name).collect();
        names.sort();
        let all = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", ADMIN];
        assert_eq!(names, all);
        let described = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(described, Some(MessageResponse::FileDescriptorResponse(_))));
        let secret = answers.message().await;
        assert!(secret.is_err(), "what nodes say to each other is not described: {secret:?}");

        let mut health = HealthClient::new(channel.clone());
        let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let daemon_itself = health.check(of("")).await.unwrap().into_inner();
        assert_eq!(daemon_itself.status(), ServingStatus::Serving);
        let admin = health.check(of(ADMIN)).await.unwrap().into_inner();
        assert_eq!(admin.status(), ServingStatus::NotServing, "it belongs to no cluster");
        assert_eq!(health.check(of("nginx")).await.unwrap_err().code(), Code::NotFound);
        let mut watched = health.watch(of("nginx")).await.unwrap().into_inner();
        let unknown = watched.message().await.unwrap().unwrap();
        assert_eq!(unknown.status(), ServingStatus::ServiceUnknown);
        let mut watchers = vec![watched];
        let full = loop {
            match health.watch(of(ADMIN)).await {
                Ok(watched) => watchers.push(watched.into_inner()),
                Err(full) => break full,
            }
        };
        assert_eq!(
            (watchers.len(), failure::code(&full)),
            (WATCHERS_MAX, Some(ErrorCode::Refused))
        );

        let refused = AdminClient::new(channel).apply(ApplyRequest::default()).await.unwrap_err();
        assert_eq!(failure::detail(&refused).unwrap().code(), ErrorCode::NotMember);
        daemon.abort();
    }

    #[tokio::test]
    async fn who_watches_is_told_the_state_and_each_change_of_it() {
        let sender = watch::Sender::new(ServingStatus::NotServing);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut watched = follow(sender.subscribe(), place);
        let mut told = Vec::new();
        for status in [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing]
        {
            publish(&sender, status);
            publish(&sender, status);
            told.push(watched.next().await.unwrap().unwrap().status());
        }
        let all = [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing];
        assert_eq!(told, all);
        drop(sender);
        assert!(watched.next().await.is_none(), "nothing was told twice");
    }
}
