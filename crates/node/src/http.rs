//! `/healthz` over plain HTTP, for load balancers' and supervisors' probes: 200 while this node
//! is a member, its director answers, and it hears a majority of the voters; 503 with the reason
//! otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::node::Node;

/// Serves until the daemon ends.
///
/// # Errors
///
/// If the address can't be listened on.
pub(crate) async fn serve(address: SocketAddr, node: Arc<Node>) -> Result<(), std::io::Error> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let app = Router::new().route("/healthz", get(healthz)).with_state(node);
    axum::serve(listener, app).await
}

async fn healthz(State(node): State<Arc<Node>>) -> (StatusCode, String) {
    let Some(member) = node.member() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no cluster yet\n".to_owned());
    };
    match member.view().await {
        Ok(view) if view.quorate => (StatusCode::OK, "ok\n".to_owned()),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "no quorum heard of\n".to_owned()),
        Err(status) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", status.message())),
    }
}
