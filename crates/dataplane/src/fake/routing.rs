//! Routes and policy rules of the fake kernel: what it refuses, and what goes by itself with a device or an
//! address (net/ipv4/fib_frontend.c, net/ipv6/route.c).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quorate_model::id::DeviceName;
use quorate_model::routing::{Place, RouteKind, Routing, RoutingEntry};

use super::Call;
use super::kernel::{Kernel, Mark};
use crate::DeviceState;
use crate::error::{DataplaneError, Errno, Operation};
use crate::fake::Fake;

/// The routes and rules of a kernel: of routes, one a place, whoever added it; of rules, one for each program.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    routes: BTreeMap<Place, (RoutingEntry, Mark)>,
    rules: BTreeSet<(RoutingEntry, bool)>,
}

impl Held {
    /// Everything that carries this mark.
    pub(super) fn marked(&self, mark: Mark) -> Routing {
        let routes = self.routes.values().filter(|(_, of)| *of == mark).map(|(entry, _)| entry);
        let rules = self.rules.iter().filter(|(_, ours)| *ours == (mark == Mark::Ours));
        routes.chain(rules.map(|(entry, _)| entry)).cloned().collect()
    }

    /// Adds an entry; whether there was room for it.
    pub(super) fn put(&mut self, entry: &RoutingEntry, mark: Mark) -> bool {
        match entry {
            RoutingEntry::Rule(_) => self.rules.insert((entry.clone(), mark == Mark::Ours)),
            RoutingEntry::Route(_) => {
                let free = !self.routes.contains_key(&entry.place());
                if free {
                    self.routes.insert(entry.place(), (entry.clone(), mark));
                }
                free
            }
        }
    }

    pub(super) fn take(&mut self, entry: &RoutingEntry, mark: Mark) {
        self.rules.remove(&(entry.clone(), mark == Mark::Ours));
        if self.routes.get(&entry.place()).is_some_and(|held| *held == (entry.clone(), mark)) {
            self.routes.remove(&entry.place());
        }
    }

    /// A device went down, or away: its routes go. Rules name devices, and stay.
    pub(super) fn device_lost(&mut self, device: &DeviceName) {
        self.routes.retain(|_, (entry, _)| !entry.interfaces().any(|of| of == device));
    }

    /// An address went: routes that are to send from it go, and of IPv6 they stay without it.
    pub(super) fn address_lost(&mut self, address: IpAddr) {
        self.routes.retain(|_, (entry, _)| {
            let RoutingEntry::Route(route) = entry else { return true };
            if route.source != Some(address) {
                return true;
            }
            route.source = None;
            address.is_ipv6()
        });
    }
}

impl Fake {
    pub(super) fn routing(&self) -> Result<Routing, DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::ObserveRouting, || Operation::ObserveRouting)?;
        Ok(kernel.routing.marked(Mark::Ours))
    }

    pub(super) fn put_routing(&self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let doing = || Operation::AddRouting(Box::new(entry.clone()));
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::AddRouting, doing)?;
        kernel.needs_net_admin(doing)?;
        kernel.takes_routing(entry)?;
        if kernel.routing.put(entry, Mark::Ours)
            || kernel.routing.marked(Mark::Ours).contains(entry)
        {
            return Ok(());
        }
        Err(DataplaneError::Taken { doing: doing() })
    }

    pub(super) fn take_routing(&self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let doing = || Operation::RemoveRouting(Box::new(entry.clone()));
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::RemoveRouting, doing)?;
        kernel.needs_net_admin(doing)?;
        kernel.routing.take(entry, Mark::Ours);
        Ok(())
    }
}

impl Kernel {
    fn takes_routing(&self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let RoutingEntry::Route(route) = entry else { return Ok(()) };
        let doing = || Operation::AddRouting(Box::new(entry.clone()));
        let refused = |errno| Err(DataplaneError::from_errno(doing(), Errno(errno)));
        if route.kind != RouteKind::Unicast {
            return Ok(());
        }
        if let Some(device) = &route.interface {
            match self.device(device) {
                DeviceState::Missing => {
                    return Err(DataplaneError::NoDevice {
                        doing: doing(),
                        device: device.clone(),
                    });
                }
                DeviceState::Down => return refused(libc::ENETDOWN),
                DeviceState::Up { .. } => {}
            }
        }
        match route.source {
            Some(source) if self.device_with(source).is_none() => refused(libc::EINVAL),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataplane as _;
    use crate::fake::FakeKernel;

    #[test]
    fn it_fails_as_it_was_told_to_and_then_no_more() {
        let kernel = FakeKernel::new();
        let mut fake = kernel.dataplane();
        let rule: RoutingEntry = "rule IPv4 1000 from 10.0.0.0/8 lookup 100".parse().unwrap();
        for call in [Call::AddRouting, Call::ObserveRouting, Call::RemoveRouting] {
            kernel.fail_next(call, 1, Errno(libc::ENOMEM));
        }
        assert!(fake.add_routing(&rule).is_err());
        assert_eq!(kernel.routing(), Routing::new());
        fake.add_routing(&rule).unwrap();
        assert!(fake.observe_routing().is_err());
        assert!(fake.remove_routing(&rule).is_err());
        assert_eq!(fake.observe_routing(), Ok([rule].into()));
    }
}
