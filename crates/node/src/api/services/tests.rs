//! How a node shows its own services.

use std::collections::BTreeMap;

use quorate_model::command::{Order, UnixMillis};
use quorate_model::desired::Standing;
use quorate_model::kernel::{Destination, ObservedDestination, ObservedService};
use quorate_model::spec::{Format, Forward, parse};

use super::*;

const CONFIGURATION: &str = r#"
[group.web]
interface = "public"
addresses = ["10.0.0.100/32"]

[service.web]
group = "web"
listen = ["tcp/10.0.0.100:80", "tcp/10.0.0.100:81"]
scheduler = "wlc"
forward = "NAT"
persistence = "50s"
check = { type = "tcp" }
real_servers = [{ address = "10.0.0.11:80" }, { address = "10.0.0.12:80", weight = 0 }]
"#;

fn spec(text: &str) -> Arc<ClusterSpec> {
    Arc::new(parse(text, Format::Toml).unwrap())
}

/// What is shown where no service had lost its quorum.
fn local(
    spec: &Arc<ClusterSpec>,
    overrides: &Overrides,
    verdicts: &Verdicts,
    leaving: &[Leaver],
    observed: Option<&ObservedServices>,
) -> Vec<ServiceStatus> {
    let (lost, starting) = (&Lost::new(), &AllStarting::new());
    super::local(spec, overrides, Seen { verdicts, lost, starting, leaving, observed })
}

fn verdicts(spec: &ClusterSpec, knowledge: &Knowledge) -> Verdicts {
    desired::probe_targets(spec).into_iter().map(|target| (target, knowledge.clone())).collect()
}

/// What web's real servers are shown as.
fn shown(spec: &Arc<ClusterSpec>, knowledge: &Knowledge) -> Vec<(RealServerState, u32, String)> {
    let services = local(
        spec,
        &Overrides::default(),
        &verdicts(spec, knowledge),
        &[],
        Some(&ObservedServices::new()),
    );
    let servers = services[0].real_servers.iter();
    servers.map(|s| (s.state(), s.effective_weight, s.reason.clone())).collect()
}

#[test]
fn a_service_is_shown_as_it_is_configured() {
    let spec = spec(CONFIGURATION);
    let service =
        local(&spec, &Overrides::default(), &Verdicts::new(), &[], Some(&ObservedServices::new()))
            .remove(0);
    assert_eq!((service.name.as_str(), service.group.as_str()), ("web", "web"));
    assert_eq!(service.listen, ["tcp/10.0.0.100:80", "tcp/10.0.0.100:81"]);
    assert_eq!((service.scheduler.as_str(), service.forward.as_str()), ("wlc", "NAT"));
    assert_eq!(service.persistence_s, Some(50));
}

#[test]
fn a_sorry_server_stands_by_until_no_real_server_takes_connections() {
    let more = "flags = [\"port\"]\nsorry_server = { address = \"10.0.0.9:80\", weight = 7 }";
    let spec = spec(&format!("{CONFIGURATION}{more}\n").replace("\"wlc\"", "\"sh\""));
    let shown = |knowledge: &Knowledge| {
        let service = local(
            &spec,
            &Overrides::default(),
            &verdicts(&spec, knowledge),
            &[],
            Some(&ObservedServices::new()),
        )
        .remove(0);
        assert_eq!(service.flags, ["sh-port"]);
        let sorry = service.sorry_server.unwrap();
        assert_eq!((sorry.address.as_str(), sorry.forward.as_str()), ("10.0.0.9:80", "NAT"));
        (sorry.effective_weight, sorry.reason)
    };
    assert_eq!(shown(&Knowledge::Known(Verdict::Up)), (0, "stands by".to_owned()));
    let answers = "answers: no real server takes connections".to_owned();
    let down = Knowledge::Known(Verdict::Down("refused".to_owned()));
    assert_eq!(shown(&down), (7, answers));
}

#[test]
fn a_real_servers_state_is_what_its_probes_say() {
    use RealServerState::{Down, Draining, Unknown, Up};
    let spec = spec(CONFIGURATION);
    let up = shown(&spec, &Knowledge::Known(Verdict::Up));
    assert_eq!(up, [(Up, 1, String::new()), (Draining, 0, "weight 0".to_owned())]);
    let down = shown(&spec, &Knowledge::Known(Verdict::Down("refused".to_owned())));
    assert_eq!(down, [(Down, 0, "refused".to_owned()), (Down, 0, "refused".to_owned())]);
    let unknown = shown(&spec, &Knowledge::Inherited(Standing::Taking));
    let why = "not probed yet".to_owned();
    assert_eq!(unknown, [(Unknown, 1, why.clone()), (Unknown, 0, why)]);
}

#[test]
fn without_a_check_a_real_server_counts_as_up_and_says_that_it_is_not_checked() {
    use RealServerState::{Draining, Up};
    let spec = spec(&CONFIGURATION.replace("check = { type = \"tcp\" }\n", ""));
    let shown = shown(&spec, &Knowledge::Known(Verdict::Up));
    assert_eq!(shown, [(Up, 1, "not checked".to_owned()), (Draining, 0, "weight 0".to_owned())]);
}

#[test]
fn connections_are_those_of_every_address_that_the_service_listens_on() {
    let spec = spec(CONFIGURATION);
    let service = spec.services.values().next().unwrap();
    let destination = Some(Destination::new(Forward::Nat, 1));
    let server = ObservedDestination { destination, active: 3, inactive: 4, ..Default::default() };
    let observed = ObservedService {
        destinations: BTreeMap::from([(([10, 0, 0, 11], 80).into(), server)]),
        ..ObservedService::default()
    };
    let observed = desired::keys(service).into_iter().map(|key| (key, observed.clone())).collect();
    let servers = local(&spec, &Overrides::default(), &Verdicts::new(), &[], Some(&observed))
        .remove(0)
        .real_servers;
    let connections: Vec<_> = servers.iter().map(|s| (s.active, s.inactive)).collect();
    assert_eq!(connections, [(6, 8), (0, 0)]);
}

#[test]
fn what_was_not_read_is_absent_and_not_nothing() {
    let spec = spec(CONFIGURATION);
    let service = local(&spec, &Overrides::default(), &Verdicts::new(), &[], None).remove(0);
    assert_eq!((service.counters, service.rates), (None, None));
    assert!(service.real_servers.iter().all(|s| s.counters.is_none() && s.kernel_weight.is_none()));
}

#[test]
fn an_override_is_shown_beside_the_configured_weight() {
    let spec = spec(CONFIGURATION);
    let order = Order { author: "ada".to_owned(), at: UnixMillis(0) };
    let to = |weight, until: Option<u64>| Override {
        weight,
        order: order.clone(),
        until: until.map(UnixMillis),
    };
    let name = "web".parse().unwrap();
    let mut overrides = Overrides::default();
    overrides.set(&name, ([10, 0, 0, 11], 80).into(), Some(to(0, Some(3_600_000))));
    overrides.set(&name, ([10, 0, 0, 12], 80).into(), Some(to(9, None)));
    let verdicts = verdicts(&spec, &Knowledge::Known(Verdict::Up));
    let servers = local(&spec, &overrides, &verdicts, &[], Some(&ObservedServices::new()))
        .remove(0)
        .real_servers;
    let drained = &servers[0];
    assert_eq!((drained.weight, drained.effective_weight), (1, 0));
    assert_eq!((drained.state(), drained.reason.as_str()), (RealServerState::Draining, "by ada"));
    let shown = drained.r#override.clone().unwrap();
    assert_eq!(shown.until.as_deref(), Some("1970-01-01T01:00:00Z"));
    let heavier = &servers[1];
    assert_eq!((heavier.weight, heavier.effective_weight), (0, 9));
    assert_eq!(
        (heavier.state(), heavier.r#override.clone().unwrap().until),
        (RealServerState::Up, None)
    );
}

/// It has no place in the configuration any more, but still has connections.
#[test]
fn a_real_server_that_left_the_configuration_is_shown_until_its_time_is_over() {
    let spec = spec(CONFIGURATION);
    let former = Arc::new(spec.services.values().next().unwrap().clone());
    let leaver = |name: &str, host: u8, left: u64| Leaver {
        service: (name.parse().unwrap(), Arc::clone(&former)),
        server: RealServer {
            address: ([10, 0, 0, host], 80).into(),
            weight: 0,
            ..former.real_servers[0]
        },
        left: Duration::from_millis(left),
    };
    let active = ObservedDestination {
        destination: Some(Destination::new(Forward::Nat, 0)),
        active: 4,
        ..Default::default()
    };
    let key = *desired::keys(&former).iter().next().unwrap();
    let mut observed = ObservedServices::new();
    let server = ([10, 0, 0, 13], 80).into();
    observed.entry(key).or_default().destinations.insert(server, active);
    // One that is back under another key is shown as what it is.
    let leavers = [leaver("web", 11, 9_000), leaver("web", 13, 21_500), leaver("old", 13, 1_000)];
    let services = local(&spec, &Overrides::default(), &Verdicts::new(), &leavers, Some(&observed));
    let names: Vec<_> = services.iter().map(|s| (s.name.as_str(), s.forward.as_str())).collect();
    assert_eq!(names, [("web", "NAT"), ("old", "NAT")]);
    let [_, _, left] = &services[0].real_servers[..] else { panic!("{services:?}") };
    assert_eq!((left.address.as_str(), left.active), ("10.0.0.13:80", 4));
    assert_eq!(left.state(), RealServerState::Draining);
    assert_eq!(left.reason, "left the configuration, deleted in 22s");
    assert_eq!((left.leaves_in_s, services[0].real_servers[0].leaves_in_s), (Some(22), None));
    assert_eq!(services[1].real_servers.len(), 1);
}

#[test]
fn a_real_server_beside_too_few_others_says_what_becomes_of_it() {
    let few = CONFIGURATION
        .replace("{ address = \"10.0.0.12:80\", weight = 0 }", "{ address = \"10.0.0.12:80\" }");
    let shown = |keys: &str| {
        let spec = spec(&format!("{few}{keys}\n"));
        let mut verdicts = verdicts(&spec, &Knowledge::Known(Verdict::Up));
        let last = verdicts.values_mut().next_back().unwrap();
        *last = Knowledge::Known(Verdict::Down("refused".to_owned()));
        let service = local(&spec, &Overrides::default(), &verdicts, &[], None).remove(0);
        let sorry = service.sorry_server.map(|s| s.reason).unwrap_or_default();
        let of = |s: &RealServerStatus| (s.state(), s.effective_weight, s.reason.clone());
        (service.real_servers.iter().map(of).collect::<Vec<_>>(), sorry)
    };
    let (servers, sorry) = shown("sorry_server = \"10.0.0.9:80\"\nquorum = 2");
    let answers = "the sorry server answers, since too few are up (quorum)".to_owned();
    assert_eq!(servers[0], (RealServerState::Up, 0, answers));
    assert_eq!(servers[1], (RealServerState::Down, 0, "refused".to_owned()));
    assert_eq!(sorry, "answers: real servers of weight 1 are up, short of quorum 2");
    let (servers, _) = shown("min_up = 2");
    let serves = "refused; serves all the same, since too few are up (min_up)".to_owned();
    assert_eq!(servers[0], (RealServerState::Up, 1, String::new()));
    assert_eq!(servers[1], (RealServerState::Down, 1, serves));
}

#[test]
fn a_real_server_that_starts_slowly_shows_the_weight_that_it_has_and_when_it_has_all() {
    let spec = spec(CONFIGURATION);
    let verdicts = verdicts(&spec, &Knowledge::Known(Verdict::Up));
    let rises = Starting { weight: 3, whole: 10, left: Duration::from_millis(20_100) };
    let name = spec.services.keys().next().unwrap().clone();
    let starting = AllStarting::from([(name, [(([10, 0, 0, 11], 80).into(), rises)].into())]);
    let (lost, overrides) = (Lost::new(), Overrides::default());
    let (lost, starting) = (&lost, &starting);
    let seen = Seen { verdicts: &verdicts, lost, starting, leaving: &[], observed: None };
    let service = super::local(&spec, &overrides, seen).remove(0);
    let shown = &service.real_servers[0];
    assert_eq!((shown.state(), shown.effective_weight), (RealServerState::Up, 3));
    assert_eq!(shown.reason, "starts slowly: weight 10 in 21s");
}
