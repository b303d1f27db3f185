//! `quorate node list|remove`.

use quorate_api::v1::{NodeState, RemoveNodeRequest, StatusResponse};
use serde::Serialize;

use super::confirm::confirm;
use super::{Ended, Scene, member, read_member_status, read_status};
use crate::cli::{Node, NodeRemove};
use crate::client::{Admin, Kind};
use crate::exit::{Exit, Failure};
use crate::output::{json, table};

#[derive(Serialize)]
struct Listed {
    nodes: Vec<json::Node>,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

pub(super) async fn run(scene: &Scene<'_>, action: Node) -> Ended {
    match action {
        Node::List => list(scene).await,
        Node::Remove(arguments) => remove(scene, arguments).await,
    }
}

async fn list(scene: &Scene<'_>) -> Ended {
    let status = member(read_status(&scene.cluster()?, true).await?)?;
    let listed = Listed { nodes: status.nodes.iter().cloned().map(json::Node::from).collect() };
    scene.output.data(&listed, |style| table::nodes(&status.nodes, style))?;
    Ok(Exit::Ok)
}

async fn remove(scene: &Scene<'_>, arguments: NodeRemove) -> Ended {
    let client = scene.cluster()?;
    let name = arguments.name;
    if !arguments.yes {
        let status = read_member_status(&client).await?;
        confirm(scene.output, false, &impact(&status, &name)?, "Remove it?")?;
    }
    let call = |mut admin: Admin| {
        let request = RemoveNodeRequest { name: name.clone() };
        async move { admin.remove_node(request).await }
    };
    client.call(Kind::Slow, &format!("remove node {name}"), call).await?;
    scene.output.data(&Removed { removed: &name }, |_| {
        format!("Node {name} is no member any more; it can come back only as a new node.")
    })?;
    Ok(Exit::Ok)
}

fn impact(status: &StatusResponse, name: &str) -> Result<Vec<String>, Failure> {
    let Some(node) = status.nodes.iter().find(|node| node.name == name) else {
        let known: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(Failure::new(Exit::Failed, format!("no node is named {name:?}"))
            .hint(format!("there is: {}", known.join(", "))));
    };
    let mut impact = vec![format!("{name} leaves the cluster at once and for good")];
    if !node.owns.is_empty() {
        impact.push(format!("it owns {}, which another director gets", node.owns.join(", ")));
    }
    let others = status.nodes.iter().filter(|other| other.name != name);
    let down = others.clone().filter(|other| other.state() == NodeState::Unreachable).count();
    let (left, down) = (others.count(), down);
    if left < 3 {
        impact.push(format!("{left} nodes remain: no failure of a node is survived then"));
    }
    if down > 0 {
        impact.push(format!("{down} of the remaining {left} can't be reached now"));
    }
    Ok(impact)
}
