//! Plain HTTP for monitoring. `/healthz`: 200 while this node is a member, its director answers,
//! and it hears a majority of the voters; 503 with the reason otherwise. `/metrics`: a few gauges in
//! the text format of Prometheus. Tests: below.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use quorate_model::director::DirectorView;

use crate::log;
use crate::node::Node;
use crate::renewals::Lacks;

/// Serves until the daemon ends.
///
/// # Errors
///
/// If the address can't be listened on.
pub(crate) async fn serve(address: SocketAddr, node: Arc<Node>) -> Result<(), std::io::Error> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(node);
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

/// The content type of the text format (prometheus.io, exposition formats).
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn metrics(State(node): State<Arc<Node>>) -> impl axum::response::IntoResponse {
    let view = match node.member() {
        Some(member) => member.view().await.ok().map(|view| (view, member.renewals.lacks())),
        None => None,
    };
    let text =
        view.map_or_else(String::new, |(view, lacks)| exposition(&view, &lacks, log::dropped()));
    ([(axum::http::header::CONTENT_TYPE, TEXT_FORMAT)], text)
}

fn exposition(view: &DirectorView, lacks: &Lacks, dropped_lines: usize) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: Vec<(String, u128)>| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (labels, value) in values {
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    };
    let one = |value: bool| vec![(String::new(), u128::from(value))];
    gauge(
        "quorate_quorum",
        "Whether a majority of the voters is heard of here.",
        one(view.quorate),
    );
    gauge(
        "quorate_fence_armed",
        "Whether the fence stands on every device.",
        one(view.addresses.unfenced.is_none()),
    );
    gauge(
        "quorate_renewal_realtime",
        "Whether the renewal thread has real-time priority.",
        one(lacks.priority.is_none()),
    );
    gauge(
        "quorate_memory_locked",
        "Whether the daemon's memory is kept from being paged out.",
        one(lacks.memory.is_none()),
    );
    gauge(
        "quorate_disk_full",
        "Whether the data directory's disk counts as full, so that nothing new is begun.",
        one(view.disk_full),
    );
    gauge(
        "quorate_log_lines_dropped",
        "Lines of the log that nobody took since the daemon started.",
        vec![(String::new(), dropped_lines as u128)],
    );
    // A group's name has no character that a label would have to escape.
    let held = view.held.iter();
    gauge(
        "quorate_lease_remaining_milliseconds",
        "For how long the lease of each group that this node holds still runs.",
        held.map(|(group, (_, left))| (format!("{{group=\"{group}\"}}"), left.as_millis()))
            .collect(),
    );
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_model::id::Epoch;

    use super::*;

    #[test]
    fn a_renewal_thread_without_real_time_priority_shows_in_the_metrics() {
        let mut view = DirectorView::default();
        view.held.insert("web".parse().unwrap(), (Epoch(7), Duration::from_millis(478)));
        let lacks = Lacks { memory: None, priority: Some("no right".to_owned()) };
        let text = exposition(&view, &lacks, 3);
        for line in [
            "quorate_renewal_realtime 0",
            "quorate_memory_locked 1",
            "quorate_fence_armed 1",
            "quorate_disk_full 0",
            "quorate_log_lines_dropped 3",
            "quorate_lease_remaining_milliseconds{group=\"web\"} 478",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing:\n{text}");
        }
    }
}
