//! `quorate services`: virtual services and real servers, in the shape of `ipvsadm -ln`.

use jiff::Timestamp;
use serde::Serialize;

use super::{Ended, Scene, read_member_status};
use crate::cli::Services;
use crate::exit::{Exit, Failure};
use crate::output::table::Numbers;
use crate::output::{json, table};

#[derive(Serialize)]
struct Listed {
    services: Vec<json::Service>,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Services) -> Ended {
    let status = read_member_status(&scene.cluster()?).await?;
    let wanted = |name: &str| arguments.name.as_deref().is_none_or(|wanted| wanted == name);
    let chosen: Vec<_> = status.services.iter().filter(|service| wanted(&service.name)).collect();
    if let (Some(name), true) = (&arguments.name, chosen.is_empty()) {
        let known: Vec<_> = status.services.iter().map(|service| service.name.as_str()).collect();
        let failure = Failure::new(Exit::Failed, format!("no service is named {name:?}"));
        return Err(if known.is_empty() {
            failure.hint("the configuration in force has no service: quorate apply FILE")
        } else {
            failure.hint(format!("there is: {}", known.join(", ")))
        });
    }
    let listed = Listed {
        services: chosen.iter().map(|&service| json::Service::from(service.clone())).collect(),
    };
    let numbers = match (arguments.rate, arguments.stats) {
        (true, _) => Some(Numbers::Rate),
        (false, true) => Some(Numbers::Stats),
        (false, false) => None,
    };
    scene.output.data(&listed, |style| match numbers {
        Some(numbers) => table::traffic(&chosen, numbers, arguments.exact),
        None => table::services(&chosen, &status.groups, Timestamp::now(), style),
    })?;
    Ok(Exit::Ok)
}
