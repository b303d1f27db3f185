//! Decides which endpoints are asked: `--endpoint` or `--socket`, else QUORATE_ENDPOINT, else a
//! context, else the local socket. A flag beats the environment without a word. Connects to
//! nothing. Tests: below.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::tls::Identity;
use crate::cli::Global;
use crate::context::Contexts;
use crate::exit::{Exit, Failure};

/// Where a daemon listens for local administration unless its `node.toml` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/quorate/quorate.sock";

/// What the process was given besides its arguments.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `QUORATE_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `QUORATE_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// What this process was given; an empty variable counts as none.
    #[must_use]
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        Self {
            endpoint: variable("QUORATE_ENDPOINT").map(lossy),
            socket: path("QUORATE_SOCKET"),
            config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
        }
    }

    /// Where this user's contexts are kept, if this user has a place for such files.
    #[must_use]
    pub fn contexts_file(&self) -> Option<PathBuf> {
        // The XDG base directory specification: a relative XDG_CONFIG_HOME is to be ignored.
        let given = self.config_home.clone().filter(|path| path.is_absolute());
        let base = given.or_else(|| self.home.as_ref().map(|home| home.join(".config")))?;
        Some(base.join("quorate").join("config.toml"))
    }
}

fn lossy(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

/// Where a node can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The unix socket of a daemon on this machine.
    Socket(PathBuf),
    /// A node's `api` address, over mutual TLS.
    Remote {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Remote { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Remote { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Endpoint {
    /// Reads `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// A usage failure that says how an endpoint is written.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("{text:?} is no endpoint")).hint(
                "write HOST:PORT (IPv6 addresses in brackets) or unix:PATH, such as \
                 192.0.2.1:7401",
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Socket(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(address) => address,
            None if host.contains([':', '/', '[', ']']) => return Err(wrong()),
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Self::Remote { host: host.to_owned(), port })
    }
}

/// Which endpoints are asked, and as whom.
#[derive(Debug)]
pub struct Target {
    /// In the order in which they are asked; never empty.
    pub endpoints: Vec<Endpoint>,
    /// Needed by remote endpoints alone.
    pub identity: Option<Identity>,
}

impl Target {
    pub(super) fn of_cluster(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        if let Some(path) = &global.socket {
            if !global.endpoint.is_empty() || global.context.is_some() {
                return Err(Failure::usage("--socket excludes --endpoint and --context"));
            }
            return Ok(Self::socket(path.clone()));
        }
        let listed: Vec<&str> = if !global.endpoint.is_empty() {
            global.endpoint.iter().map(String::as_str).collect()
        } else if let (Some(text), None) = (&environment.endpoint, &global.context) {
            text.split(',').map(str::trim).collect()
        } else {
            Vec::new()
        };
        let endpoints: Vec<Endpoint> =
            listed.into_iter().map(Endpoint::parse).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Self::of_context(global, environment);
        }
        let remote = endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Remote { .. }));
        let identity = if remote { Some(identity(global, environment)?) } else { None };
        Ok(Self { endpoints, identity })
    }

    pub(super) fn of_this_node(
        global: &Global,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        if !global.endpoint.is_empty() || global.context.is_some() {
            return Err(Failure::usage("this command asks the daemon of this machine alone")
                .hint("leave out --endpoint and --context; --socket names its socket"));
        }
        let path = global.socket.clone();
        Ok(path.map_or_else(|| Self::local_socket(environment), Self::socket))
    }

    fn of_context(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        let contexts = Contexts::of_user(environment)?;
        let Some((name, context)) = contexts.chosen(global.context.as_deref())? else {
            return Ok(Self::local_socket(environment));
        };
        let endpoints: Vec<Endpoint> =
            context.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Failure::usage(format!("context {name} has no endpoint"))
                .hint("name one with --endpoint, or make the context anew"));
        }
        Ok(Self { endpoints, identity: Some(context.identity(name)?) })
    }

    fn local_socket(environment: &Environment) -> Self {
        Self::socket(environment.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into()))
    }

    fn socket(path: PathBuf) -> Self {
        Self { endpoints: vec![Endpoint::Socket(path)], identity: None }
    }
}

fn identity(global: &Global, environment: &Environment) -> Result<Identity, Failure> {
    let contexts = Contexts::of_user(environment)?;
    match contexts.chosen(global.context.as_deref())? {
        Some((name, context)) => context.identity(name),
        None => Err(Failure::new(
            Exit::Usage,
            "an endpoint over the network needs a client certificate, and there is no context",
        )
        .hint("on a node, run: quorate context create NAME --output DIR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;

    fn flags() -> Global {
        Global {
            endpoint: Vec::new(),
            context: None,
            socket: None,
            format: Format::Table,
            timeout: None,
        }
    }

    fn asked(global: &Global, environment: &Environment) -> Vec<String> {
        let target = Target::of_cluster(global, environment).unwrap();
        target.endpoints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_endpoint_is_read_as_it_is_shown() {
        for text in ["192.0.2.1:7401", "lb1.example:7401", "[2001:db8::1]:7401", "unix:/run/q.sock"]
        {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("unix:///run/q").unwrap().to_string(), "unix:/run/q");
        for bad in ["", "lb1", "lb1:", ":7401", "lb1:0", "lb1:70000", "2001:db8::1:7401", "unix:"] {
            assert_eq!(Endpoint::parse(bad).unwrap_err().exit, Exit::Usage, "{bad:?} passed");
        }
    }

    #[test]
    fn flag_beats_environment_and_that_beats_the_local_socket() {
        let nothing = Environment::default();
        assert_eq!(asked(&flags(), &nothing), [format!("unix:{DEFAULT_SOCKET}")]);

        let socket = Environment { socket: Some("/s".into()), ..nothing };
        assert_eq!(asked(&flags(), &socket), ["unix:/s"]);

        let both = Environment { endpoint: Some("unix:/a, unix:/b".to_owned()), ..socket };
        assert_eq!(asked(&flags(), &both), ["unix:/a", "unix:/b"]);

        let endpoint = Global { endpoint: vec!["unix:/flag".to_owned()], ..flags() };
        assert_eq!(asked(&endpoint, &both), ["unix:/flag"]);

        let socket_flag = Global { socket: Some("/flag".into()), ..flags() };
        assert_eq!(asked(&socket_flag, &both), ["unix:/flag"]);
    }

    #[test]
    fn a_remote_endpoint_without_a_certificate_is_a_usage_error() {
        let global = Global { endpoint: vec!["192.0.2.1:7401".to_owned()], ..flags() };
        let failure = Target::of_cluster(&global, &Environment::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("context create"), "{failure}");
    }

    #[test]
    fn a_relative_config_home_is_ignored() {
        let environment = Environment {
            config_home: Some("conf".into()),
            home: Some("/home/ada".into()),
            ..Environment::default()
        };
        let file = environment.contexts_file().unwrap();
        assert_eq!(file.to_str(), Some("/home/ada/.config/quorate/config.toml"));
    }

    #[test]
    fn this_node_is_asked_over_its_socket_alone() {
        let both = Environment {
            endpoint: Some("unix:/a".to_owned()),
            socket: Some("/s".into()),
            ..Environment::default()
        };
        let target = Target::of_this_node(&flags(), &both).unwrap();
        assert_eq!(target.endpoints, [Endpoint::Socket("/s".into())]);
        let global = Global { endpoint: vec!["unix:/flag".to_owned()], ..flags() };
        assert_eq!(Target::of_this_node(&global, &both).unwrap_err().exit, Exit::Usage);
    }
}
