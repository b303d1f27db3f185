//! `quorate realserver setup|check|undo`: this machine as a real server. The steps are the
//! dataplane's; here they are shown. It asks no node.

use std::net::IpAddr;

use quorate_dataplane::DataplaneError;
use quorate_dataplane::realserver::{self, Mode, Outcome, Step};
use serde::Serialize;

use super::{Ended, Scene};
use crate::cli::{RealserverMode, RealserverTarget};
use crate::exit::{Exit, Failure};
use crate::output::table;

#[derive(Serialize)]
struct Walked {
    steps: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    vip: IpAddr,
    step: String,
    state: &'static str,
    reason: Option<String>,
}

type Walk = fn(IpAddr, Mode) -> Result<Vec<Step>, DataplaneError>;

pub(super) async fn setup(scene: &Scene<'_>, target: &RealserverTarget) -> Ended {
    run(scene, target, "set up", realserver::setup).await
}

pub(super) async fn check(scene: &Scene<'_>, target: &RealserverTarget) -> Ended {
    run(scene, target, "check", realserver::check).await
}

pub(super) async fn undo(scene: &Scene<'_>, target: &RealserverTarget) -> Ended {
    run(scene, target, "undo", realserver::undo).await
}

async fn run(scene: &Scene<'_>, target: &RealserverTarget, what: &str, walk: Walk) -> Ended {
    let mode = match target.mode {
        RealserverMode::Dr => Mode::Dr,
        RealserverMode::Tun => Mode::Tun,
    };
    let mut walked = Walked { steps: Vec::new() };
    let mut bad = 0_usize;
    for &vip in &target.vip {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(Exit::Failed, format!("cannot {what} the real server: {error}"))
        };
        // The dataplane blocks, on a runtime of its own.
        let steps = tokio::task::spawn_blocking(move || walk(vip, mode))
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        bad += steps.iter().filter(|step| !step.is_fine()).count();
        walked.steps.extend(steps.iter().map(|step| shown(vip, step)));
    }
    scene.output.data(&walked, |_| {
        let row = |step: &Shown| {
            let reason = step.reason.as_ref().map_or_else(String::new, |text| format!(": {text}"));
            vec![step.vip.to_string(), step.step.clone(), format!("{}{reason}", step.state)]
        };
        table::plain(&["VIP", "STEP", "STATE"], &walked.steps.iter().map(row).collect::<Vec<_>>())
    })?;
    match (bad, what) {
        (0, _) => Ok(Exit::Ok),
        (bad, "check") => {
            Err(Failure::new(Exit::Failed, format!("{bad} things are not as they have to be"))
                .hint("as root, run: quorate realserver setup, with the same flags"))
        }
        (bad, _) => Err(Failure::new(Exit::Failed, format!("{bad} steps failed"))
            .hint("it needs root (CAP_NET_ADMIN); repeat it when the reasons above are gone")),
    }
}

fn shown(vip: IpAddr, step: &Step) -> Shown {
    let (state, reason) = match &step.outcome {
        Outcome::Done => ("done", None),
        Outcome::Already => ("already", None),
        Outcome::Missing => ("missing", None),
        Outcome::Left => ("left", None),
        Outcome::Held => ("held", None),
        Outcome::Failed(error) => ("failed", Some(error.to_string())),
    };
    Shown { vip, step: step.part.to_string(), state, reason }
}

#[cfg(test)]
mod tests {
    use quorate_dataplane::realserver::{Part, StepError};

    use super::*;

    #[test]
    fn a_step_says_what_became_of_it_and_why_it_failed() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let device: quorate_model::id::DeviceName = "tunl0".parse().unwrap();
        let failed = StepError::NoTunnel { device: device.clone(), module: "ipip" };
        let outcome = Outcome::Failed(failed);
        let found = shown(vip, &Step { part: Part::Tunnel(device.clone()), outcome });
        assert_eq!((found.step.as_str(), found.state), ("device tunl0 up", "failed"));
        assert!(found.reason.unwrap().contains("modprobe ipip"));
        let found = shown(vip, &Step { part: Part::Tunnel(device), outcome: Outcome::Left });
        assert_eq!((found.state, found.reason), ("left", None));
    }
}
