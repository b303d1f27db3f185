//! A node in memory. It keeps a configuration with its revision, recognises a repeated request,
//! and fails as it is told. Several nodes may share one cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_api::v1::admin_server::{Admin, AdminServer};
use quorate_api::v1::*;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

mod revisions;

pub(crate) use revisions::UNTIL;

/// What the nodes of one cluster agree on.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) status: StatusResponse,
    pub(crate) revision: u64,
    pub(crate) source: String,
    /// Of the revision in force: who applied it, and until when it may be confirmed.
    pub(crate) info: RevisionInfo,
    /// The revisions before, oldest first.
    pub(crate) before: Vec<(RevisionInfo, String)>,
    /// In which time the last change was to be confirmed.
    pub(crate) confirm_asked: Option<u64>,
    /// How often an `Apply` arrived.
    pub(crate) applies: u32,
    pub(crate) seen: BTreeMap<Vec<u8>, ApplyResponse>,
    /// After how many looks every owner holds its lease; 0: as it is.
    pub(crate) heals_after: u32,
    pub(crate) removed: Vec<String>,
    /// The weights that were ordered.
    pub(crate) weights: Vec<OverrideWeightRequest>,
    /// In how many looks each real server's connections end; 0: never.
    pub(crate) drains_after: u32,
    /// What an evacuation answers, look by look; the last one goes on.
    pub(crate) evacuation: Vec<EvacuateResponse>,
    pub(crate) evacuated: bool,
    /// What happened, and what was asked for of it.
    pub(crate) events: Vec<Event>,
    pub(crate) events_asked: Vec<EventsRequest>,
    pub(crate) paused: bool,
    pub(crate) token: String,
    /// The DER of the CA, and what it signs a client's key with.
    pub(crate) authority: Option<super::remote::Authority>,
    pub(crate) api: Vec<String>,
}

pub(crate) type Cluster = Arc<Mutex<State>>;

/// What goes wrong at one node.
#[derive(Debug, Clone, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It does what it is asked, and never answers.
    Mute,
    /// It answers this word and text to everything.
    Refuses(&'static str, &'static str),
    /// It does what it is asked, and then says that it doesn't know.
    Forgets,
}

/// One running node.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    directory: TempDir,
    // Dropped with the node: its tasks end.
    _runtime: Runtime,
}

impl Node {
    pub(crate) fn start(state: State) -> Self {
        Self::of(&Arc::new(Mutex::new(state)), Fault::None)
    }

    pub(crate) fn failing(fault: Fault) -> Self {
        Self::of(&Cluster::default(), fault)
    }

    pub(crate) fn of(cluster: &Cluster, fault: Fault) -> Self {
        let runtime = runtime();
        let directory = tempfile::tempdir().expect("a directory");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(directory.path().join("q.sock")).expect("a socket");
        let service = Service { cluster: Arc::clone(cluster), fault };
        // The socket is bound: a client may connect before this task has run.
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(AdminServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        drop(_inside);
        Self { cluster: Arc::clone(cluster), directory, _runtime: runtime }
    }

    pub(crate) fn socket(&self) -> String {
        self.path().to_str().expect("text").to_owned()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.socket())
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("q.sock")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.cluster.lock().expect("no panic")
    }

    /// Runs `quorate` against this node.
    pub(crate) fn quorate(&self, arguments: &[&str]) -> super::run::Ran {
        let socket = self.socket();
        let all: Vec<&str> =
            ["--socket", &socket].into_iter().chain(arguments.iter().copied()).collect();
        super::run::quorate(&all)
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) cluster: Cluster,
    pub(crate) fault: Fault,
}

fn error(word: &'static str, text: &str) -> Status {
    let mut status = Status::failed_precondition(text);
    status.metadata_mut().insert("quorate-error", word.parse().expect("a word"));
    status
}

impl Service {
    async fn answer<A>(
        &self,
        act: impl FnOnce(&mut State) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        if let Fault::Refuses(word, text) = self.fault {
            return Err(error(word, text));
        }
        let answer = act(&mut self.cluster.lock().expect("no panic"))?;
        match self.fault {
            Fault::Mute => std::future::pending().await,
            Fault::Forgets => Err(error("unknown_outcome", "the leader changed meanwhile")),
            Fault::None | Fault::Refuses(..) => Ok(Response::new(answer)),
        }
    }
}

impl State {
    fn transfer(&mut self, request: TransferRequest) -> Result<TransferResponse, Status> {
        let groups = &mut self.status.groups;
        let group = groups.iter_mut().find(|group| group.name == request.group);
        let group = group.ok_or_else(|| error("refused", "there is no such group"))?;
        let before = group.owner.clone();
        if !request.auto {
            group.owner = if request.to.is_empty() {
                group.standby.first().cloned()
            } else {
                Some(request.to)
            };
        }
        let changed = group.owner != before;
        group.epoch += u64::from(changed);
        let owner = group.owner.clone().unwrap_or_default();
        Ok(TransferResponse { owner, epoch: group.epoch, changed })
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let request = request.into_inner();
        self.answer(|state| {
            if state.status.member {
                return Err(error("refused", "this node belongs to a cluster already"));
            }
            state.status.member = true;
            state.status.cluster = Some(ClusterStatus {
                name: request.name,
                id: format!("c0ffee-{}", request.timing),
                health: Health::Ok.into(),
                ..ClusterStatus::default()
            });
            let cluster_id = format!("c0ffee-{}", request.timing);
            Ok(InitResponse { cluster_id })
        })
        .await
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let token = request.into_inner().token;
        self.answer(|state| {
            if token != state.token {
                return Err(error("refused", "the token has expired or was used"));
            }
            Ok(JoinResponse { node_id: 2, cluster_name: "prod".to_owned() })
        })
        .await
    }

    async fn create_token(
        &self,
        _: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        self.answer(|state| {
            let expires = "2026-01-02T03:19:05Z".to_owned();
            Ok(CreateTokenResponse { token: state.token.clone(), expires })
        })
        .await
    }

    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        self.answer(|state| state.apply(request.into_inner())).await
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        self.answer(|state| state.confirm(request.get_ref().revision)).await
    }

    async fn abort(
        &self,
        request: Request<AbortRequest>,
    ) -> Result<Response<AbortResponse>, Status> {
        self.answer(|state| state.abort(request.get_ref().revision)).await
    }

    async fn history(
        &self,
        _: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
        self.answer(|state| Ok(state.history())).await
    }

    async fn get_configuration(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Result<Response<GetConfigurationResponse>, Status> {
        // Reading works where changing fails: the faults are about changes.
        if let Fault::Refuses(word, text) = self.fault {
            return Err(error(word, text));
        }
        let state = self.cluster.lock().expect("no panic");
        state.configuration(request.get_ref().revision).map(Response::new)
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.answer(|state| {
            if state.heals_after == 1 {
                for group in &mut state.status.groups {
                    group.lease_remaining_ms = Some(400);
                }
            }
            state.heals_after = state.heals_after.saturating_sub(1);
            if state.drains_after == 1 {
                let services = state.status.services.iter_mut();
                services.flat_map(|s| &mut s.real_servers).for_each(|server| server.active = 0);
            }
            state.drains_after = state.drains_after.saturating_sub(1);
            Ok(state.status.clone())
        })
        .await
    }

    async fn connections(
        &self,
        request: Request<ConnectionsRequest>,
    ) -> Result<Response<ConnectionsResponse>, Status> {
        self.answer(|state| {
            let request = request.into_inner();
            if request.service != "web" {
                return Err(error("refused", "no service is named so"));
            }
            let connections = vec![Connection {
                protocol: "TCP".to_owned(),
                client: "192.168.10.100:42428".to_owned(),
                to: "192.168.10.180:80".to_owned(),
                real_server: "192.168.10.16:80".to_owned(),
                state: "ESTABLISHED".to_owned(),
                expires_s: 899,
                synced: true,
            }];
            let more = request.limit == 1 && !state.status.services.is_empty();
            Ok(ConnectionsResponse { node: "lb1".to_owned(), connections, more })
        })
        .await
    }

    async fn transfer(
        &self,
        request: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        self.answer(|state| state.transfer(request.into_inner())).await
    }

    async fn evacuate(
        &self,
        _: Request<EvacuateRequest>,
    ) -> Result<Response<EvacuateResponse>, Status> {
        self.answer(|state| {
            let changed = !std::mem::replace(&mut state.evacuated, true);
            let left = match state.evacuation.as_slice() {
                [] => EvacuateResponse::default(),
                [last] => last.clone(),
                _ => state.evacuation.remove(0),
            };
            Ok(EvacuateResponse { changed, ..left })
        })
        .await
    }

    async fn restore(
        &self,
        _: Request<RestoreRequest>,
    ) -> Result<Response<RestoreResponse>, Status> {
        self.answer(|state| {
            let changed = std::mem::replace(&mut state.evacuated, false);
            Ok(RestoreResponse { changed })
        })
        .await
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        self.answer(|state| {
            Ok(PauseResponse {
                changed: !std::mem::replace(&mut state.paused, true),
                paused_by: "client ada".to_owned(),
                paused_since: "2026-01-02T03:04:05Z".to_owned(),
            })
        })
        .await
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        self.answer(|state| {
            Ok(ResumeResponse { changed: std::mem::replace(&mut state.paused, false) })
        })
        .await
    }

    async fn override_weight(
        &self,
        request: Request<OverrideWeightRequest>,
    ) -> Result<Response<OverrideWeightResponse>, Status> {
        self.answer(|state| {
            let request = request.into_inner();
            let changed = state.weights.last() != Some(&request);
            let weight = request.weight;
            state.weights.push(request);
            for server in state.status.services.iter_mut().flat_map(|s| &mut s.real_servers) {
                server.r#override = weight.map(|weight| Override { weight, ..Override::default() });
                server.kernel_weight = Some(weight.unwrap_or(1));
            }
            let of = |service: &ServiceStatus| {
                let service_name = service.name.clone();
                let servers = service.real_servers.iter().map(|server| server.address.clone());
                servers
                    .map(move |address| OverriddenServer { service: service_name.clone(), address })
                    .collect::<Vec<_>>()
            };
            let servers = state.status.services.iter().flat_map(of).collect();
            Ok(OverrideWeightResponse { changed, servers })
        })
        .await
    }

    type EventsStream = tokio_stream::Iter<std::vec::IntoIter<Result<Event, Status>>>;

    async fn events(
        &self,
        request: Request<EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        self.answer(|state| {
            let asked = request.into_inner();
            state.events_asked.push(asked);
            let after = asked.after.unwrap_or(0);
            let events = state.events.iter().filter(|event| event.sequence > after);
            let events: Vec<_> = events.cloned().map(Ok).collect();
            Ok(tokio_stream::iter(events))
        })
        .await
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        self.answer(|state| {
            state.removed.push(request.into_inner().name);
            Ok(RemoveNodeResponse {})
        })
        .await
    }

    async fn create_client(
        &self,
        request: Request<CreateClientRequest>,
    ) -> Result<Response<CreateClientResponse>, Status> {
        let request = request.into_inner();
        self.answer(|state| {
            let authority = state.authority.as_ref();
            let authority = authority.ok_or_else(|| error("refused", "there is no CA"))?;
            Ok(CreateClientResponse {
                certificate: authority.client(&request.name, &request.public_key),
                authority: authority.der(),
                endpoints: state.api.clone(),
            })
        })
        .await
    }
}
