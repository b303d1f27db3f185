//! `quorate init`, `token create` and `join`: how a cluster comes up, in this order.

use std::io::Read as _;

use quorate_api::v1::{CreateTokenRequest, InitRequest, JoinRequest};
use serde::Serialize;

use super::{Ended, Scene};
use crate::cli::{Init, Join, Timing};
use crate::client::{Admin, Kind};
use crate::exit::{Exit, Failure};

/// A token is some hundred characters; whatever is longer is something else.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    cluster_id: &'a str,
}

pub(super) async fn init(scene: &Scene<'_>, arguments: Init) -> Ended {
    let client = scene.this_node()?;
    let timing = match arguments.timing {
        None => "",
        Some(Timing::Fast) => "fast",
        Some(Timing::Lan) => "lan",
        Some(Timing::Wan) => "wan",
    };
    let request = InitRequest { name: arguments.name.clone(), timing: timing.to_owned() };
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.init(request).await }
    };
    let answer = client.call(Kind::Slow, "make a cluster", call).await?.body;
    let made = Made { name: &arguments.name, cluster_id: &answer.cluster_id };
    scene.output.data(&made, |_| {
        format!(
            "Cluster {} is made, with this node as its first voter (id {}).",
            made.name, made.cluster_id
        )
    })?;
    scene.output.remark(
        "next: quorate token create, then quorate join TOKEN on each other node (three or more \
         voters survive a failure)",
    );
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    expires: &'a str,
}

pub(super) async fn create_token(scene: &Scene<'_>) -> Ended {
    let client = scene.cluster()?;
    let call = |mut admin: Admin| async move { admin.create_token(CreateTokenRequest {}).await };
    let answer = client.call(Kind::Once, "make a join token", call).await?.body;
    let token = Token { token: &answer.token, expires: &answer.expires };
    // A script takes the token from stdout: nothing else may stand there.
    scene.output.data(&token, |_| token.token.to_owned())?;
    scene
        .output
        .remark(&format!("for one node, until {}: there, run quorate join TOKEN", token.expires));
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Joined<'a> {
    cluster: &'a str,
    node_id: u64,
}

pub(super) async fn join(scene: &Scene<'_>, arguments: Join) -> Ended {
    let token = token(arguments.token)?;
    let client = scene.this_node()?;
    let call = |mut admin: Admin| {
        let request = JoinRequest { token: token.clone() };
        async move { admin.join(request).await }
    };
    let answer = client.call(Kind::Slow, "join the cluster", call).await?.body;
    let joined = Joined { cluster: &answer.cluster_name, node_id: answer.node_id };
    scene.output.data(&joined, |_| {
        format!("This node is a voter of cluster {} (node id {}).", joined.cluster, joined.node_id)
    })?;
    Ok(Exit::Ok)
}

/// The token as given, or from stdin, where no other user of this machine can read it.
fn token(given: String) -> Result<String, Failure> {
    let text = if given == "-" {
        let mut text = String::new();
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot read the token from stdin: {error}"))
        })?;
        text
    } else {
        given
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(
            Failure::usage("the token is empty").hint("on a member, run: quorate token create")
        );
    }
    Ok(token.to_owned())
}
