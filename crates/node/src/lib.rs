//! quorated: Raft, storage, transport, clock, director loop, probes, API.
//!
//! Pure decisions are `quorate-model`'s; this crate carries them out. The director loop runs on a
//! thread and runtime of its own (`renewals`). Inside this crate, the API, Raft, probes and watches
//! talk to the director loop over bounded channels, not to each other; `reconcile`
//! alone calls the dataplane.
#![forbid(unsafe_code)]

mod api;
pub mod cli;
pub mod clock;
pub mod config;
mod director;
mod echo;
mod exec;
mod fifo;
mod hearsay;
mod hooks;
mod host;
mod http;
pub mod identity;
mod journal;
pub mod log;
mod look;
mod member;
mod memory;
mod node;
mod notify;
mod patience;
pub mod peer;
mod probes;
pub mod purge;
pub mod raft;
mod reconcile;
pub mod recover;
pub mod release;
mod renewals;
mod tasks;
mod thread;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use quorate_api::convert::DecodeError;
use quorate_dataplane::linux::Linux;
use quorate_model::id::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::NodeConfig;
pub use crate::fifo::FifoError;
use crate::host::HostLock;
pub use crate::host::HostLockError;
use crate::identity::file::{self, IdentityFileError};
use crate::node::{Kernel, Node};
use crate::notify::Notifier;
use crate::raft::store::StoreError;
use crate::raft::store::lock::{DataDirectory, LockError};
pub use crate::reconcile::{LeftOverError, ListError};
use crate::reconcile::{listed_addresses, remove_left_over};

/// How long a stopping daemon may take to give its groups up and to close its store.
const STOP_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the daemon can't run, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another director runs in this network namespace.
    #[error(transparent)]
    Host(#[from] HostLockError),
    /// The identity can't be read.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds what this version can't read.
    #[error("the store can't be read: {0}")]
    Stored(#[from] DecodeError),
    /// Raft can't start.
    #[error(transparent)]
    Raft(#[from] raft::node::StartError),
    /// VIPs of a former daemon may still be in the kernel.
    #[error("VIPs that a former daemon left can't be removed, so nothing is started: {0}")]
    LeftOver(#[from] LeftOverError),
    /// The lists of what is ours in the kernel can't be kept.
    #[error(transparent)]
    List(#[from] ListError),
    /// The thread that asks the network can't be started.
    #[error("cannot start a thread to ask the network who has the VIPs: {0}")]
    Questions(#[source] io::Error),
    /// The local socket can't be served.
    #[error(transparent)]
    Socket(#[from] api::local::SocketError),
    /// The FIFO of events can't be made.
    #[error(transparent)]
    Fifo(#[from] FifoError),
    /// An address can't be listened on.
    #[error("cannot listen on {address}: {cause}; is the address this machine's, and free?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: io::Error,
    },
    /// The system gives no random bytes or keys.
    #[error(transparent)]
    Authority(#[from] identity::AuthorityError),
    /// The system gives no runtime, threads or signals.
    #[error("the system refuses what the daemon needs to run: {0}")]
    System(#[from] io::Error),
    /// The daemon ended itself.
    #[error("{0}")]
    Fatal(String),
}

impl StartError {
    /// Whether it would end the same way however often it is started again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Store(StoreError::Abandoned { .. }))
    }
}

/// Makes a panic anywhere end the process: a half-dead owner is worse than a dead one.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// If it can't start, or had to end.
pub fn run(config: NodeConfig) -> Result<(), StartError> {
    let directory = DataDirectory::lock(&config.data_dir)?;
    let directs = config.role == Role::Director;
    // What a witness was as a director may stand, and be open.
    let clears = directs || !listed_addresses(&config.data_dir)?.is_empty();
    let _host = clears.then(HostLock::take).transpose()?;
    let cleared = if clears { clear_kernel(&config.data_dir)? } else { None };
    let kernel = cleared.filter(|_| directs);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config, directory, kernel));
    // Whatever still waits (a probe, an idle connection) ends with the process.
    runtime.shutdown_background();
    ended
}

/// Closes and removes the VIPs that a former daemon left, before anything else. What holds the new
/// fence is returned for whoever keeps addresses from then on.
fn clear_kernel(data_dir: &Path) -> Result<Option<Kernel>, StartError> {
    let mut linux = match Linux::new() {
        Ok(linux) => linux,
        Err(cause) => {
            warn!(%cause, "the kernel can't be used: this director will own no VIP");
            return Ok(None);
        }
    };
    for left in remove_left_over(&mut linux, data_dir)? {
        info!(device = %left.device, address = %left.net, "removed a VIP of a former daemon");
    }
    Ok(Some(Kernel(Box::new(linux))))
}

async fn serve(
    config: NodeConfig,
    directory: DataDirectory,
    kernel: Option<Kernel>,
) -> Result<(), StartError> {
    let (fatal, mut ended) = mpsc::channel(1);
    let identity = file::load(&config.data_dir)?;
    let (socket, http) = (config.socket.clone(), config.http);
    if let Some(path) = &config.events_fifo {
        fifo::make(path)?;
    }
    let node = Node::new(config, directory, kernel, fatal.clone());
    let listener = api::local::bind(&socket).await?;
    match identity {
        Some(identity) => node.resume(identity).await?,
        None => info!(
            name = %node.config().name,
            "no cluster yet: `quorate init --name NAME` makes one, `quorate join TOKEN` joins one"
        ),
    }
    let local = api::local::serve(listener, node.clone());
    tokio::spawn(end_with(fatal.clone(), "the local socket", local));
    if let Some(address) = http {
        tokio::spawn(end_with(fatal, "http", http::serve(address, node.clone())));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let notifier = Notifier::from_environment();
    notifier.ready();
    tokio::select! {
        Some(cause) = ended.recv() => return Err(StartError::Fatal(cause)),
        _ = terminate.recv() => info!("stopping"),
        _ = interrupt.recv() => info!("stopping"),
        () = show_life(&notifier, &node) => {}
    }
    notifier.stopping();
    if tokio::time::timeout(STOP_LIMIT, node.stop()).await.is_err() {
        warn!("not everything was given up within {STOP_LIMIT:?}");
    }
    // A socket that nobody answers on would look like a daemon that hangs.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Tells the service manager now and then that the daemon works: a member does as long as its director
/// loop answers. Never ends.
async fn show_life(notifier: &Notifier, node: &Node) {
    let Some(every) = notifier.alive_every() else { return std::future::pending().await };
    loop {
        let works = match node.member() {
            Some(member) => member.director.view().await.is_some(),
            None => true,
        };
        if works {
            notifier.alive();
        }
        tokio::time::sleep(every).await;
    }
}

/// Runs a server that ends only by failing, and ends the daemon with it.
async fn end_with<E: std::fmt::Display>(
    fatal: mpsc::Sender<String>,
    what: &str,
    server: impl Future<Output = Result<(), E>>,
) {
    if let Err(cause) = server.await {
        let _ = fatal.send(format!("{what} can't be served: {cause}")).await;
    }
}
