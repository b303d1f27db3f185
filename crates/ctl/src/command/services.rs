//! `quorate services`: virtual services and real servers, in the shape of `ipvsadm -ln`.

use jiff::Timestamp;
use quorate_model::spec::Format;
use serde::Serialize;

use super::apply::apply;
use super::configuration::{Candidate, InForce};
use super::confirm::confirm;
use super::{Ended, Scene, read_member_status};
use crate::cli::{Services, ServicesClear};
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

/// The configuration in force without its services: every director removes them from its kernel.
pub(super) async fn clear(scene: &Scene<'_>, arguments: ServicesClear) -> Ended {
    let client = scene.cluster()?;
    let in_force = InForce::read(&client).await?;
    let count = in_force.spec.as_ref().map_or(0, |spec| spec.services.len());
    if in_force.spec.is_some() && count == 0 {
        scene.output.remark("The configuration in force has no service.");
    }
    let source = without_services(&in_force)?;
    let candidate = Candidate::of(source, in_force.format)?;
    let sure = if count == 0 { Vec::new() } else { vec![format!("deletes all {count} services")] };
    confirm(scene.output, arguments.yes, &sure, "Clear them?")?;
    apply(scene, &client, candidate, &in_force).await
}

fn without_services(in_force: &InForce) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let what = format!("cannot read the configuration in force: {error}");
        Failure::new(Exit::Failed, what)
            .hint("take the services out by hand: quorate export config")
    };
    match in_force.format {
        Format::Toml => {
            let mut table: toml::Table =
                in_force.source.parse().map_err(|error: toml::de::Error| failed(&error))?;
            table.remove("service");
            toml::to_string(&table).map_err(|error| failed(&error))
        }
        Format::Json => {
            let mut table: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&in_force.source).map_err(|error| failed(&error))?;
            table.remove("service");
            serde_json::to_string_pretty(&table).map_err(|error| failed(&error))
        }
    }
}
