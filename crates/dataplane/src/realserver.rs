//! Setting up a real server for direct routing or tunnelling: it takes packets for the VIP, and
//! never tells anyone on the network that it has it.
//!
//! Every function goes through all its steps whatever fails, and says of each what it found; but
//! the VIP is never added where the sysctls that keep it silent could not be set. The set-up lasts
//! until the next boot. Undoing leaves what other VIPs need. Tests: at the end, and
//! tests/tests/lab_ipvs_realserver.rs.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use quorate_model::id::DeviceName;
use quorate_model::kernel::DeviceAddress;

use crate::error::{DataplaneError, Errno, Operation};
use crate::linux::{Linux, module};
use crate::sysctl::{self, Proc, SysctlProblem, Sysctls, Want};
use crate::{Dataplane, DeviceState, SysctlMode, addresses_of};

/// How packets reach this real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Direct routing.
    Dr,
    /// An IP-in-IP tunnel.
    Tun,
}

/// One thing that a real server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A sysctl with this value.
    Sysctl {
        /// Its name as sysctl(8) takes it.
        key: String,
        /// Its value.
        value: String,
    },
    /// The device that takes packets out of the tunnel, up.
    Tunnel(DeviceName),
    /// The VIP on `lo`.
    Address(IpNet),
    /// The VIP's route through `lo`.
    Route(IpNet),
    /// Clients are told of segments that fit the tunnel.
    Segments(IpAddr),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { key, value } => write!(f, "sysctl {key} = {value}"),
            Self::Tunnel(device) => write!(f, "device {device} up"),
            Self::Address(net) => write!(f, "address {net} on lo"),
            Self::Route(net) => write!(f, "route {net} through lo"),
            Self::Segments(vip) => write!(f, "segments to {vip} that fit the tunnel"),
        }
    }
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was set up, or undone, just now.
    Done,
    /// It was so already.
    Already,
    /// It is not set up (of `check`).
    Missing,
    /// It stays, since other VIPs on `lo` need it (of `undo`).
    Left,
    /// It was not added, since what must stand before it failed (of `setup`): a host that has the
    /// VIP and may answer ARP for it takes the VIP from its director.
    Held,
    /// It could not be set up, undone or looked at.
    Failed(StepError),
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
    /// There is no tunnel device, and the module that makes it could not be loaded.
    #[error("there is no device {device}, and its module could not be loaded: `modprobe {module}`")]
    NoTunnel {
        /// The device that is missing.
        device: DeviceName,
        /// The module that makes it.
        module: &'static str,
    },
    /// The sysctl did not keep its value.
    #[error("{0}")]
    Sysctl(#[from] SysctlProblem),
}

/// One part and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub part: Part,
    /// What became of it.
    pub outcome: Outcome,
}

impl Step {
    /// Whether the part is now as the call was to make or to find it.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        !matches!(self.outcome, Outcome::Missing | Outcome::Held | Outcome::Failed(_))
    }
}

/// Makes this host take the VIP's packets. What is so already is left as it is.
///
/// # Errors
/// Where the kernel can't be reached at all; what else fails is in the steps.
pub fn setup(vip: IpAddr, mode: Mode) -> Result<Vec<Step>, DataplaneError> {
    let mut host = RealServer::new()?;
    Ok(in_order(needs(vip, mode, &host.lo), |need| host.set(need)))
}

/// Looks whether this host is set up for the VIP, and changes nothing.
///
/// # Errors
/// Where the kernel can't be reached at all; what else fails is in the steps.
pub fn check(vip: IpAddr, mode: Mode) -> Result<Vec<Step>, DataplaneError> {
    let mut host = RealServer::new()?;
    Ok(needs(vip, mode, &host.lo).into_iter().map(|need| host.look(need)).collect())
}

/// Takes the VIP away again. Sysctls and the tunnel stay while other VIPs are on `lo`; with the
/// last one, sysctls return to what new devices get (`net.ipv4.conf.default`), since what they
/// were before is not known.
///
/// # Errors
/// Where the kernel can't be reached at all; what else fails is in the steps.
pub fn undo(vip: IpAddr, mode: Mode) -> Result<Vec<Step>, DataplaneError> {
    let mut host = RealServer::new()?;
    // The VIP goes first: without the sysctls, this host would answer ARP for it.
    let (own, shared): (Vec<Need>, Vec<Need>) =
        needs(vip, mode, &host.lo).into_iter().rev().partition(Need::is_of_one_vip);
    let mut steps: Vec<Step> = own.into_iter().map(|need| host.unset(need)).collect();
    let last = host.other_vips(vip)?.is_empty();
    for need in shared {
        steps.push(if last { host.unset(need) } else { need.becomes(Outcome::Left) });
    }
    Ok(steps)
}

/// A part, and what it takes to see to it.
#[derive(Debug)]
enum Need {
    Sysctl(Want),
    Tunnel { device: DeviceName, module: &'static str },
    Address(DeviceAddress),
    Route(IpNet),
    Segments { vip: IpAddr, device: DeviceName },
}

impl Need {
    fn is_of_one_vip(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Route(_) | Self::Segments { .. })
    }

    fn becomes(self, outcome: Outcome) -> Step {
        let part = match self {
            Self::Sysctl(want) => {
                Part::Sysctl { key: want.key.join("."), value: want.value.to_owned() }
            }
            Self::Tunnel { device, .. } => Part::Tunnel(device),
            Self::Address(address) => Part::Address(address.net),
            Self::Route(net) => Part::Route(net),
            Self::Segments { vip, .. } => Part::Segments(vip),
        };
        Step { part, outcome }
    }
}

/// What a VIP needs, in the order of setting up: the address last but its route, when nothing
/// answers ARP for it any more. (For IPv6 no sysctl is needed: Linux answers neighbour
/// solicitations only for addresses of the device that was asked on.)
fn needs(vip: IpAddr, mode: Mode, lo: &DeviceName) -> Vec<Need> {
    let conf = |place: &str, name: &str, value: &str| {
        let key = ["net", "ipv4", "conf", place, name].map(str::to_owned);
        Need::Sysctl(Want { key: key.into(), value: value.to_owned() })
    };
    let (mut needs, mut tunnel) = (Vec::new(), None);
    if vip.is_ipv4() {
        for place in ["lo", "all"] {
            needs.push(conf(place, "arp_ignore", "1"));
            needs.push(conf(place, "arp_announce", "2"));
        }
    }
    if mode == Mode::Tun {
        let (name, module) =
            if vip.is_ipv4() { ("tunl0", "ipip") } else { ("ip6tnl0", "ip6_tunnel") };
        if let Ok(device) = name.parse::<DeviceName>() {
            tunnel = Some(device.clone());
            needs.push(Need::Tunnel { device, module });
        }
        if vip.is_ipv4() {
            // The client's address is not reached through the tunnel: the filter would drop it.
            needs.push(conf("tunl0", "rp_filter", "0"));
            needs.push(conf("all", "rp_filter", "0"));
        }
    }
    let net = IpNet::from(vip);
    needs.push(Need::Address(DeviceAddress { device: lo.clone(), net }));
    needs.push(Need::Route(net));
    // Last: where it fails, clients find out themselves what fits, if their networks let them.
    needs.extend(tunnel.map(|device| Need::Segments { vip, device }));
    needs
}

/// Sees to each need in turn, and holds the VIP back once one before it has failed.
fn in_order(needs: Vec<Need>, mut see_to: impl FnMut(Need) -> Step) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for need in needs {
        let hold = need.is_of_one_vip() && !steps.iter().all(Step::is_fine);
        steps.push(if hold { need.becomes(Outcome::Held) } else { see_to(need) });
    }
    steps
}

struct RealServer {
    linux: Linux,
    lo: DeviceName,
}

impl RealServer {
    fn new() -> Result<Self, DataplaneError> {
        let doing = Operation::OpenSocket;
        let lo = "lo".parse().map_err(|_| DataplaneError::Garbled { doing })?;
        Ok(Self { linux: Linux::new()?, lo })
    }

    fn has_address(&mut self, address: &DeviceAddress) -> Result<bool, DataplaneError> {
        let observed = self.linux.observe_addresses(std::slice::from_ref(&address.device))?;
        Ok(observed.contains_key(address))
    }

    fn look(&mut self, need: Need) -> Step {
        let found = match &need {
            Need::Sysctl(want) => {
                let outcome = see_to_sysctl(want, SysctlMode::Check);
                return need.becomes(outcome);
            }
            Need::Tunnel { device, .. } => {
                self.linux.device(device).map(|state| matches!(state, DeviceState::Up { .. }))
            }
            Need::Address(address) => self.has_address(address),
            Need::Route(net) => self.linux.has_host_route(net.addr(), &self.lo),
            Need::Segments { vip, device } => self.linux.is_clamped(*vip, device),
        };
        let outcome = match found {
            Ok(true) => Outcome::Already,
            Ok(false) => Outcome::Missing,
            Err(error) => Outcome::Failed(error.into()),
        };
        need.becomes(outcome)
    }

    fn set(&mut self, need: Need) -> Step {
        let changed = match &need {
            Need::Sysctl(want) => {
                let outcome = see_to_sysctl(want, SysctlMode::Set);
                return need.becomes(outcome);
            }
            Need::Tunnel { device, module } => {
                let missing = self.linux.device(device) == Ok(DeviceState::Missing);
                // The module makes the device, in this namespace as well.
                if missing && !module::load(module) {
                    let error = StepError::NoTunnel { device: device.clone(), module };
                    return need.becomes(Outcome::Failed(error));
                }
                self.linux.set_up(device, true)
            }
            Need::Address(address) => match self.has_address(address) {
                Ok(true) => Ok(false),
                Ok(false) => self.linux.add_address(address, None).map(|()| true),
                Err(error) => Err(error),
            },
            Need::Route(net) => self.linux.add_host_route(net.addr(), &self.lo),
            Need::Segments { vip, device } => self.linux.clamp(*vip, device),
        };
        need.becomes(outcome(changed))
    }

    fn unset(&mut self, need: Need) -> Step {
        let changed = match &need {
            Need::Sysctl(want) => return unset_sysctl(want),
            Need::Tunnel { device, .. } => match self.linux.device(device) {
                Ok(DeviceState::Missing) => Ok(false),
                Ok(_) => self.linux.set_up(device, false),
                Err(error) => Err(error),
            },
            Need::Address(address) => match self.has_address(address) {
                Ok(true) => self.linux.remove_address(address).map(|()| true),
                other => other,
            },
            Need::Route(net) => self.linux.remove_host_route(net.addr(), &self.lo),
            Need::Segments { vip, .. } => self.linux.unclamp(*vip),
        };
        need.becomes(outcome(changed))
    }

    /// Other single addresses on `lo`, besides its own: VIPs, whoever put them there.
    fn other_vips(&mut self, vip: IpAddr) -> Result<Vec<IpNet>, DataplaneError> {
        let observed = self.linux.observe_addresses(std::slice::from_ref(&self.lo))?;
        let nets = addresses_of(&observed).into_iter().map(|address| address.net);
        let single = |net: &IpNet| {
            net.prefix_len() == net.max_prefix_len()
                && !net.addr().is_loopback()
                && net.addr() != vip
        };
        Ok(nets.filter(single).collect())
    }
}

fn outcome(changed: Result<bool, DataplaneError>) -> Outcome {
    match changed {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Already,
        Err(error) => Outcome::Failed(error.into()),
    }
}

fn see_to_sysctl(want: &Want, mode: SysctlMode) -> Outcome {
    let finding = sysctl::settle(&mut Proc, want, mode);
    match finding.problem {
        None if finding.changed => Outcome::Done,
        None => Outcome::Already,
        Some(SysctlProblem::Wrong) => Outcome::Missing,
        Some(SysctlProblem::Failed(error)) if mode == SysctlMode::Check && is_absent(&error) => {
            Outcome::Missing
        }
        Some(problem) => Outcome::Failed(problem.into()),
    }
}

/// Whether a sysctl is not there, as those of a device that isn't.
fn is_absent(error: &DataplaneError) -> bool {
    matches!(error, DataplaneError::Refused { errno: Errno(libc::ENOENT), .. })
}

/// Sets a sysctl of a device to what new devices get.
fn unset_sysctl(want: &Want) -> Step {
    let parts: Vec<&str> = want.key.iter().map(String::as_str).collect();
    let mut default = parts.clone();
    if let Some(place) = default.get_mut(3) {
        *place = "default";
    }
    let restored = || -> Result<(String, bool), DataplaneError> {
        let value = Proc.read(&default)?;
        let wrong = Proc.read(&parts)? != value;
        if wrong {
            Proc.write(&parts, &value)?;
        }
        Ok((value, wrong))
    };
    let (value, outcome) = match restored() {
        Ok((value, true)) => (value, Outcome::Done),
        Ok((value, false)) => (value, Outcome::Already),
        Err(error) if is_absent(&error) => ("default".to_owned(), Outcome::Already),
        Err(error) => ("default".to_owned(), Outcome::Failed(error.into())),
    };
    Step { part: Part::Sysctl { key: want.key.join("."), value }, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lo() -> DeviceName {
        "lo".parse().unwrap()
    }

    #[test]
    fn the_vip_is_held_back_where_it_could_not_be_kept_silent() {
        let vip = "192.0.2.1".parse().unwrap();
        for failing in ["net.ipv4.conf.lo.arp_ignore", "net.ipv4.conf.all.arp_announce"] {
            let steps = in_order(needs(vip, Mode::Dr, &lo()), |need| {
                let step = need.becomes(Outcome::Done);
                match &step.part {
                    Part::Sysctl { key, .. } if key == failing => {
                        let error = SysctlProblem::NotKept.into();
                        Step { outcome: Outcome::Failed(error), ..step }
                    }
                    _ => step,
                }
            });
            let held: Vec<String> = steps
                .iter()
                .filter(|step| step.outcome == Outcome::Held)
                .map(|step| step.part.to_string())
                .collect();
            assert_eq!(held, ["address 192.0.2.1/32 on lo", "route 192.0.2.1/32 through lo"]);
        }
    }

    #[test]
    fn the_sysctls_stand_before_the_vip() {
        for (vip, mode) in [("192.0.2.1", Mode::Dr), ("192.0.2.1", Mode::Tun), ("::2", Mode::Tun)] {
            let needs = needs(vip.parse().unwrap(), mode, &lo());
            assert!(needs.is_sorted_by_key(Need::is_of_one_vip), "{needs:?}");
            let steps = in_order(needs, |need| need.becomes(Outcome::Already));
            assert!(steps.iter().all(Step::is_fine));
        }
    }
}
