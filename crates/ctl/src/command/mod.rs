//! The commands, a file for each noun. A command asks, prints through `Output`, and returns how it
//! ended; it never writes to stdout or stderr itself.

mod apply;
mod change;
mod cluster;
mod configuration;
mod confirm;
mod connections;
mod context;
mod converge;
mod convert;
mod diff;
mod doctor;
mod evacuate;
mod events;
mod explain;
mod export_keepalived;
mod history;
mod keepalived;
mod node;
mod only;
mod pause;
mod realserver;
mod revisions;
mod services;
mod shell;
mod status;
mod support_bundle;
mod transfer;
mod validate;
mod version;
mod watch;
mod weight;

use quorate_api::v1::{StatusRequest, StatusResponse};

use crate::cli::{Cli, Command, Format, Global, Realserver, ServicesAction, Tool};
use crate::client::{Client, Environment, Kind};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// How commands end.
type Ended = Result<Exit, Failure>;

/// What every command is given.
struct Scene<'a> {
    global: &'a Global,
    environment: &'a Environment,
    output: &'a Output,
}

impl Scene<'_> {
    fn cluster(&self) -> Result<Client, Failure> {
        Client::of_cluster(self.global, self.environment)
    }

    fn this_node(&self) -> Result<Client, Failure> {
        Client::of_this_node(self.global, self.environment)
    }
}

/// Runs one command.
///
/// # Errors
/// The failure, with what to tell and the exit code.
pub(crate) async fn run(cli: Cli, environment: &Environment, output: &Output) -> Ended {
    let scene = &Scene { global: &cli.global, environment, output };
    let nagios = cli.global.format == Format::Nagios;
    if nagios && !matches!(cli.command, Command::Tool(Tool::Doctor(_))) {
        return Err(Failure::usage("only `quorate doctor` writes for Nagios")
            .hint("-o json, and the exit code, say the same of other commands"));
    }
    match cli.command {
        Command::Init(arguments) => cluster::init(scene, arguments).await,
        Command::Token(crate::cli::Token::Create) => cluster::create_token(scene).await,
        Command::Join(arguments) => cluster::join(scene, arguments).await,
        Command::Context(action) => context::run(scene, action).await,
        Command::Apply(arguments) => apply::run(scene, arguments).await,
        Command::Confirm(arguments) => revisions::confirm(scene, &arguments).await,
        Command::Abort(arguments) => revisions::abort(scene, &arguments).await,
        Command::Config(action) => revisions::run(scene, &action).await,
        Command::Diff(arguments) => diff::run(scene, arguments).await,
        Command::Status(arguments) => status::run(scene, arguments).await,
        Command::Services(arguments) => match arguments.action {
            Some(ServicesAction::Clear(clear)) => services::clear(scene, clear).await,
            None => services::run(scene, arguments).await,
        },
        Command::Connections(arguments) => connections::run(scene, &arguments).await,
        Command::Events(arguments) => events::run(scene, &arguments).await,
        Command::Export(what) => convert::export(scene, &what).await,
        Command::Import(what) => convert::import(scene, &what),
        Command::Transfer(arguments) => transfer::run(scene, arguments).await,
        Command::Evacuate(arguments) => evacuate::run(scene, arguments).await,
        Command::Restore(arguments) => evacuate::restore(scene, arguments).await,
        Command::Pause => pause::run(scene).await,
        Command::Resume => pause::resume(scene).await,
        Command::Node(action) => node::run(scene, action).await,
        Command::Realserver(action) => match action {
            Realserver::Setup(target) => realserver::setup(scene, &target).await,
            Realserver::Check(target) => realserver::check(scene, &target).await,
            Realserver::Undo(target) => realserver::undo(scene, &target).await,
            Realserver::Drain(arguments) => weight::drain(scene, &arguments).await,
            Realserver::Weight(arguments) => weight::weight(scene, &arguments).await,
            Realserver::Enable(arguments) => weight::enable(scene, &arguments).await,
        },
        Command::Tool(tool) => look(scene, tool).await,
        Command::Version => version::run(scene),
    }
}

/// What changes nothing.
async fn look(scene: &Scene<'_>, tool: Tool) -> Ended {
    match tool {
        Tool::Validate(arguments) => validate::run(scene, &arguments),
        Tool::Explain(arguments) => explain::run(scene, &arguments).await,
        Tool::History(arguments) => history::run(scene, &arguments).await,
        Tool::Doctor(arguments) => doctor::run(scene, &arguments).await,
        Tool::Watch(arguments) => watch::run(scene, &arguments).await,
        Tool::SupportBundle(arguments) => support_bundle::run(scene, &arguments).await,
        Tool::Completion(arguments) => shell::completion(scene, &arguments),
        Tool::Man(arguments) => shell::man(scene, &arguments),
    }
}

/// In brief it is without services, and cheap.
async fn read_status(client: &Client, brief: bool) -> Result<StatusResponse, Failure> {
    let request = |mut admin: crate::client::Admin| async move {
        admin.status(StatusRequest { brief }).await
    };
    Ok(client.call(Kind::Read, "read the status", request).await?.body)
}

/// The status of a cluster; a node that belongs to none is a failure.
async fn read_member_status(client: &Client) -> Result<StatusResponse, Failure> {
    member(read_status(client, false).await?)
}

fn member(status: StatusResponse) -> Result<StatusResponse, Failure> {
    if status.member {
        return Ok(status);
    }
    Err(Failure::new(Exit::Failed, "the node that answered belongs to no cluster yet")
        .hint(status::HOW_TO_BECOME_A_MEMBER))
}

/// Connections that pass through a group's virtual services, by what its owner says.
fn active_connections(status: &StatusResponse, group: &str) -> u64 {
    let services = status.services.iter().filter(|service| service.group == group);
    let servers = services.flat_map(|s| s.real_servers.iter().chain(&s.sorry_server));
    servers.map(|server| server.active).sum()
}
