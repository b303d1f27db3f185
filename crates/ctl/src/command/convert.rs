//! `quorate export` and `quorate import`: the configuration in force for other programs, and the
//! tables of other programs as a configuration.

use std::collections::BTreeMap;

use quorate_model::spec::{self, Format};
use serde::Serialize;

use super::configuration::{self, InForce};
use super::{Ended, Scene};
use crate::cli::{Export, Import, ImportIpvsadm};
use crate::exit::{Exit, Failure};
use crate::ipvsadm::{self, Options};

#[derive(Serialize)]
struct Exported<'a> {
    revision: u64,
    text: &'a str,
}

pub(super) async fn export(scene: &Scene<'_>, what: &Export) -> Ended {
    if let Export::Keepalived(arguments) = what {
        return super::export_keepalived::run(scene, arguments).await;
    }
    let in_force = InForce::read(&scene.cluster()?).await?;
    let text = match what {
        Export::Ipvsadm => ipvsadm::export(&in_force.spec.ok_or_else(unreadable)?),
        Export::Config | Export::Keepalived(_) => in_force.source,
    };
    scene.output.data(&Exported { revision: in_force.revision, text: &text }, |_| text.clone())?;
    Ok(Exit::Ok)
}

/// That a configuration was applied by a later version than this.
pub(super) fn unreadable() -> Failure {
    let what = "the configuration in force can't be read by this version of quorate";
    Failure::new(Exit::Failed, what).hint("use the version that the nodes run")
}

#[derive(Serialize)]
struct Converted<'a> {
    source: &'a str,
    services: usize,
    real_servers: usize,
}

pub(super) fn import(scene: &Scene<'_>, what: &Import) -> Ended {
    let ImportIpvsadm { file, group, interface, mark } = match what {
        Import::Ipvsadm(arguments) => arguments,
        Import::Keepalived(arguments) => return super::keepalived::import(scene, arguments),
    };
    let text = configuration::read_text(file)?;
    let options = Options {
        group: group.clone(),
        interface: interface.clone(),
        marks: mark.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let imported = ipvsadm::import(&text, &options);
    let mut problems = imported.problems;
    if problems.is_empty()
        && let Err(wrong) = spec::parse(&imported.source, Format::Toml)
    {
        // IPVS took it, and it can't be kept whole here: a port that DR can't map, for example.
        problems.push(wrong.render("what it would become", &imported.source).trim_end().to_owned());
    }
    if !problems.is_empty() {
        let count = problems.len();
        let what =
            format!("{count} errors in {file}; nothing was written\n{}", problems.join("\n"));
        return Err(Failure::new(Exit::Failed, what));
    }
    let (services, real_servers) = imported.counts;
    scene.output.remark(&format!(
        "{services} services, {real_servers} real servers. Check it, then: quorate apply FILE"
    ));
    let converted = Converted { source: &imported.source, services, real_servers };
    scene.output.data(&converted, |_| imported.source.clone())?;
    Ok(Exit::Ok)
}
