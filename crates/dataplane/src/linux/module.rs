//! Loading a kernel module that the kernel did not load by itself.

use std::process::{Command, Stdio};

use tracing::{info, warn};

/// Runs modprobe(8); whether the module is there now.
pub(crate) fn load(module: &str) -> bool {
    let done = Command::new("modprobe")
        .args(["-q", module])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => {
            info!(module, "loaded a kernel module");
            true
        }
        Ok(status) => {
            warn!(module, %status, "modprobe could not load a kernel module");
            false
        }
        Err(error) => {
            warn!(module, %error, "modprobe could not be run to load a kernel module");
            false
        }
    }
}
