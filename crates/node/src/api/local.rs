//! The local admin socket: whoever the file system lets open it may administer this node. It is
//! for root, and for the group `quorate` where there is one (mode 0660).

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, chown};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use super::admin::Caller;
use super::error::{Kind, error};
use super::served::router;
use crate::node::Node;

/// The group whose members may use the socket.
const GROUP: &str = "quorate";

/// Why the socket can't be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon listens there.
    #[error(
        "{0} is in use: another quorated answers there; stop it, or give `socket` in node.toml another path"
    )]
    InUse(PathBuf),
    /// Something else stands there.
    #[error("{0} is not a socket: move it away, or give `socket` in node.toml another path")]
    NotASocket(PathBuf),
    /// The file system refuses.
    #[error("cannot listen on {path}: {cause}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Makes the socket, taking the place of one that a dead daemon left.
///
/// # Errors
///
/// If somebody answers there, or the file system refuses.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(SocketError::InUse(path.to_owned()));
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = match group_id() {
        Some(gid) => chown(path, None, Some(gid)).map_or(0o600, |()| 0o660),
        None => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// The number of the group in /etc/group (group(5)).
pub(crate) fn group_id() -> Option<Gid> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    let id: u32 = line.split(':').nth(2)?.parse().ok()?;
    Some(Gid::from_raw(id))
}

/// Serves the socket until the daemon ends.
///
/// # Errors
///
/// If the listener fails.
pub(crate) async fn serve(
    listener: UnixListener,
    node: Arc<Node>,
) -> Result<(), tonic::transport::Error> {
    router(node, identify).serve_with_incoming(UnixListenerStream::new(listener)).await
}

fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    let Some(credentials) = info.and_then(|info| info.peer_cred) else {
        return Err(error(Kind::Forbidden, "the kernel does not tell who is calling"));
    };
    request.extensions_mut().insert(Caller::Local { uid: credentials.uid() });
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quorate.sock");
        let first = bind(&path).await.unwrap();
        assert!(matches!(bind(&path).await, Err(SocketError::InUse(_))));
        drop(first);
        assert!(bind(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quorate.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path).await, Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
