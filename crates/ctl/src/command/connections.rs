//! `quorate connections`: some of the connections of a virtual service, in the shape of
//! `ipvsadm -Lnc`.

use quorate_api::v1::{Connection, ConnectionsRequest, ConnectionsResponse};
use serde::Serialize;

use super::{Ended, Scene};
use crate::cli::Connections;
use crate::client::{Admin, Kind};
use crate::exit::Exit;
use crate::output::table;

#[derive(Serialize)]
struct Listed<'a> {
    node: &'a str,
    connections: Vec<Entry<'a>>,
    more: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    protocol: &'a str,
    client: &'a str,
    to: &'a str,
    real_server: &'a str,
    state: &'a str,
    expires_s: u64,
    origin: &'static str,
}

impl<'a> From<&'a Connection> for Entry<'a> {
    fn from(connection: &'a Connection) -> Self {
        Self {
            protocol: &connection.protocol,
            client: &connection.client,
            to: &connection.to,
            real_server: &connection.real_server,
            state: &connection.state,
            expires_s: connection.expires_s,
            origin: if connection.synced { "synced" } else { "local" },
        }
    }
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &Connections) -> Ended {
    let Connections { service, limit } = arguments;
    let client = scene.cluster()?;
    let call = |mut admin: Admin| {
        let request = ConnectionsRequest { service: service.clone(), limit: *limit };
        async move { admin.connections(request).await }
    };
    let what = format!("list the connections of {service}");
    let answer = client.call(Kind::Read, &what, call).await?.body;
    let listed = Listed {
        node: &answer.node,
        connections: answer.connections.iter().map(Entry::from).collect(),
        more: answer.more,
    };
    scene.output.data(&listed, |_| shown(&listed, &answer))?;
    Ok(Exit::Ok)
}

fn shown(listed: &Listed<'_>, answer: &ConnectionsResponse) -> String {
    let row = |entry: &Entry<'_>| {
        let Entry { protocol, client, to, real_server, state, expires_s, origin } = entry;
        let expires = format!("{:02}:{:02}", expires_s / 60, expires_s % 60);
        [protocol, expires.as_str(), state, client, to, real_server, origin]
            .map(|text: &str| text.to_owned())
            .to_vec()
    };
    let heading = ["PROT", "EXPIRES", "STATE", "CLIENT", "TO", "REAL SERVER", "ORIGIN"];
    let rows: Vec<_> = listed.connections.iter().map(row).collect();
    let mut text = table::plain(&heading, &rows);
    let count = listed.connections.len();
    let node = &answer.node;
    text.push_str(&match (count, answer.more) {
        (_, true) => format!("The first {count} on {node}; there are more: --limit\n"),
        (1, false) => format!("1 connection on {node}\n"),
        (count, false) => format!("{count} connections on {node}\n"),
    });
    text
}
