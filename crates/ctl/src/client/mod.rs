//! Finds the cluster and asks it. `target` decides which endpoints are asked and with what
//! identity, `connect` reaches one, `call` asks them in turn and turns what went wrong into an
//! exit code. Nothing here prints.

pub mod call;
mod connect;
mod target;
mod tls;

use std::time::Duration;

pub use call::{Answer, Kind};
pub use target::{DEFAULT_SOCKET, Endpoint, Environment, Target};
pub use tls::{Identity, IdentityError};

use crate::cli::Global;
use crate::exit::Failure;

/// What requests are sent through.
pub type Admin = quorate_api::v1::admin_client::AdminClient<tonic::transport::Channel>;

/// The way to one cluster.
#[derive(Debug)]
pub struct Client {
    target: Target,
    timeout: Option<Duration>,
}

impl Client {
    /// The cluster that flags, environment, contexts and the local socket lead to, in this order.
    ///
    /// # Errors
    /// A usage failure where they contradict each other or can't be read.
    pub fn of_cluster(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        let target = Target::of_cluster(global, environment)?;
        Ok(Self { target, timeout: global.timeout })
    }

    /// The daemon of this machine, for what can be asked of no other.
    ///
    /// # Errors
    /// A usage failure where a flag names another.
    pub fn of_this_node(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        let target = Target::of_this_node(global, environment)?;
        Ok(Self { target, timeout: global.timeout })
    }
}
