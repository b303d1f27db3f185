//! `quorate context create|list|use`.

use std::path::Path;

use quorate_api::v1::CreateClientRequest;
use serde::Serialize;

use super::{Ended, Scene};
use crate::cli;
use crate::client::{Admin, Kind};
use crate::context::{Context, Contexts, Key, pem};
use crate::exit::{Exit, Failure};
use crate::output::table;

pub(super) async fn run(scene: &Scene<'_>, action: cli::Context) -> Ended {
    match action {
        cli::Context::Create(arguments) => create(scene, arguments).await,
        cli::Context::List => list(scene),
        cli::Context::Use(arguments) => choose(scene, &arguments.name),
    }
}

#[derive(Serialize)]
struct Created<'a> {
    name: &'a str,
    file: &'a Path,
    endpoints: &'a [String],
}

async fn create(scene: &Scene<'_>, arguments: cli::ContextCreate) -> Ended {
    let name = arguments.name;
    let mut contexts = match &arguments.directory {
        Some(directory) => Contexts::of_file(directory.join("config.toml"))?,
        None => Contexts::of_user(scene.environment)?,
    };
    // Before the cluster has issued anything.
    contexts.refuse_taken(&name)?;
    let key = Key::generate()?;
    let request = CreateClientRequest { name: name.clone(), public_key: key.public() };
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.create_client(request).await }
    };
    let answer =
        scene.cluster()?.call(Kind::Once, "have a client certificate issued", call).await?.body;
    if answer.endpoints.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            "cannot make a context: no node of the cluster can be reached over the network",
        )
        .hint("give nodes an `api` address in their node.toml and restart quorated there"));
    }
    let context = Context {
        endpoints: answer.endpoints,
        authority: pem("CERTIFICATE", &answer.authority),
        certificate: pem("CERTIFICATE", &answer.certificate),
        key: key.secret_pem(),
    };
    // A context that can't be used is not stored.
    context.identity(&name)?;
    let endpoints = context.endpoints.clone();
    let file = contexts.add(&name, context)?;
    let created = Created { name: &name, file, endpoints: &endpoints };
    scene.output.data(&created, |_| {
        format!("Context {name} is in {} (endpoints {}).", file.display(), endpoints.join(", "))
    })?;
    if arguments.directory.is_some() {
        scene.output.remark(
            "next: carry the file to ~/.config/quorate/config.toml of whoever shall use it; it \
             holds a private key",
        );
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Listed<'a> {
    contexts: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    current: bool,
    endpoints: &'a [String],
}

fn list(scene: &Scene<'_>) -> Ended {
    let contexts = Contexts::of_user(scene.environment)?;
    let entries = contexts.iter().map(|(name, context, current)| Entry {
        name,
        current,
        endpoints: &context.endpoints,
    });
    let listed = Listed { contexts: entries.collect() };
    scene.output.data(&listed, |_| {
        let row = |entry: &Entry<'_>| {
            let mark = if entry.current { "*" } else { "" };
            vec![mark.to_owned(), entry.name.to_owned(), entry.endpoints.join(",")]
        };
        let rows: Vec<_> = listed.contexts.iter().map(row).collect();
        table::plain(&["CURRENT", "NAME", "ENDPOINTS"], &rows)
    })?;
    if listed.contexts.is_empty() {
        scene.output.remark("there is no context yet: quorate context create NAME");
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Chosen<'a> {
    current: &'a str,
}

fn choose(scene: &Scene<'_>, name: &str) -> Ended {
    Contexts::of_user(scene.environment)?.choose(name)?;
    scene.output.data(&Chosen { current: name }, |_| format!("Context {name} is current."))?;
    Ok(Exit::Ok)
}
