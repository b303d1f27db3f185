//! `arbitration = [..]`: addresses that a director has to reach.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::spec::document::{At, Diagnostics, Field};

use super::group::Groups;
use super::{ARBITRATION_MAX, ARBITRATION_TOTAL_MAX, address};

/// The addresses read so far, in all lists, with where each stands.
#[derive(Debug, Default)]
pub(super) struct Probed {
    all: BTreeSet<IpAddr>,
    stands: Vec<(At, IpAddr)>,
}

impl Probed {
    /// One list.
    pub(super) fn list(&mut self, list: &Field<'_>, out: &mut Diagnostics) -> Option<Vec<IpAddr>> {
        let items = list.list(out)?;
        if items.len() > ARBITRATION_MAX {
            let message =
                format!("{} arbitration addresses, at most {ARBITRATION_MAX}", items.len());
            out.push(list.problem(message).help("two or three that don't fail together will do"));
            return None;
        }
        let mut read = Some(Vec::with_capacity(items.len()));
        let mut seen = BTreeSet::new();
        for item in &items {
            let address = item.address(out).filter(|&ip| {
                let new = seen.insert(ip);
                if !new {
                    out.push(item.problem(format!("{ip} stands twice")).help("remove one"));
                }
                new && address::refuse_no_host(ip, item, out).is_some()
            });
            if let Some(ip) = address {
                if self.all.insert(ip) && self.all.len() > ARBITRATION_TOTAL_MAX {
                    let message = format!(
                        "more than {ARBITRATION_TOTAL_MAX} arbitration addresses in all groups \
                         together"
                    );
                    out.push(item.problem(message));
                    return None;
                }
                self.stands.push((item.at.clone(), ip));
            }
            read = read.zip(address).map(|(mut read, ip)| {
                read.push(ip);
                read
            });
        }
        read
    }

    /// An owner always reaches its own VIP, and nobody else's answer says anything of a network.
    pub(super) fn against(&self, groups: &Groups, out: &mut Diagnostics) {
        for (at, ip) in &self.stands {
            if let Some(group) = groups.owner.get(ip) {
                let problem = at.problem(format!("{ip} is an address of group {group}"));
                out.push(problem.help("name a host that is there whoever owns it, as a gateway"));
            }
        }
    }
}
