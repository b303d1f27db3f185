//! What the other directors see of the real servers, asked for when this one starts: after a restart of
//! the machine its kernel says nothing, and a group may come to it before its own probes have ended.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use quorate_api::peer::v1::ObserveResponse;
use quorate_api::v1::RealServerState;
use quorate_model::director::Event;
use quorate_model::id::{Role, ServiceName};
use quorate_model::reach::Hearsay;
use tokio::sync::mpsc;
use tracing::info;

use crate::member::Member;

/// How often the others are asked, if none has an answer.
const TRIES: u32 = 20;
/// From one time to the next: a first probe may end within that, here or there.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Asks until another director says something, and hands it to the director loop.
pub(crate) async fn ask(member: Arc<Member>, sender: mpsc::Sender<Event>) {
    // A witness probes nothing, and needs to know nothing of it.
    if member.services.is_none() {
        return;
    }
    let mut state = member.raft.state();
    let probed = state
        .wait_for(|state| state.spec.services.values().any(|service| !service.checks.is_empty()));
    if probed.await.is_err() {
        return;
    }
    for _ in 0..TRIES {
        let state = member.state();
        let directors = state.nodes.iter().filter(|(node, record)| {
            **node != member.me && record.description.role == Role::Director
        });
        let answers = join_all(directors.map(|(node, _)| member.ask(*node, false))).await;
        let told = gathered(answers.iter().flatten());
        if !told.is_empty() {
            info!(services = told.len(), "what other directors see counts until it is probed here");
            // The loop ends with the daemon.
            let _ = sender.send(Event::Hearsay(told)).await;
            return;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Of what has been probed by somebody; one that is seen up by one of them is up.
fn gathered<'a>(answers: impl Iterator<Item = &'a ObserveResponse>) -> Hearsay {
    let mut told = Hearsay::new();
    for service in answers.flat_map(|answer| &answer.services) {
        let Ok(name) = service.name.parse::<ServiceName>() else { continue };
        for server in &service.real_servers {
            let up = match server.state() {
                RealServerState::Up => true,
                RealServerState::Down => false,
                RealServerState::Draining
                | RealServerState::Unknown
                | RealServerState::Unspecified => continue,
            };
            let Ok(address) = server.address.parse() else { continue };
            let servers = told.entry(name.clone()).or_default();
            *servers.entry(address).or_default() |= up;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::{RealServerStatus, ServiceStatus};

    use super::*;

    fn answer(service: &str, servers: &[(&str, RealServerState)]) -> ObserveResponse {
        let server = |(address, state): &(&str, RealServerState)| RealServerStatus {
            address: (*address).to_owned(),
            state: (*state).into(),
            ..RealServerStatus::default()
        };
        let real_servers = servers.iter().map(server).collect();
        let name = service.to_owned();
        let services = vec![ServiceStatus { name, real_servers, ..ServiceStatus::default() }];
        ObserveResponse { services, ..ObserveResponse::default() }
    }

    #[test]
    fn a_real_server_is_up_if_one_of_those_that_probed_it_sees_it_up() {
        use RealServerState::{Down, Draining, Unknown, Up};
        let (a, b, c, d) = ("10.0.0.1:80", "10.0.0.2:80", "[2001:db8::3]:80", "10.0.0.4:80");
        let answers = [
            answer("web", &[(a, Down), (b, Down), (c, Unknown), (d, Draining)]),
            answer("web", &[(a, Up), (b, Down), (c, Up)]),
            answer("not a name", &[(a, Up)]),
            answer("web", &[("nowhere", Up)]),
        ];
        let told = gathered(answers.iter());
        let expected = [(a, true), (b, false), (c, true)];
        let expected = expected.map(|(address, up)| (address.parse().unwrap(), up));
        assert_eq!(told, Hearsay::from([("web".parse().unwrap(), expected.into())]));
        assert_eq!(gathered([answer("web", &[(a, Unknown)])].iter()), Hearsay::new());
    }
}
