//! `quorate version`: this program's own, which needs no cluster.

use serde::Serialize;

use super::{Ended, Scene};
use crate::exit::Exit;

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub(super) fn run(scene: &Scene<'_>) -> Ended {
    let version = env!("CARGO_PKG_VERSION");
    scene.output.data(&Version { version }, |_| format!("quorate {version}"))?;
    Ok(Exit::Ok)
}
