//! Which of this node's links meets which of another's. Pure.
//!
//! By name, where both have a link of that name; what is left by position, among links of one
//! address family. The rule is the same from both ends, so both find the same pairs.

use std::net::SocketAddr;

use quorate_model::command::LinkAddress;

/// For each pair: the position of this node's link, and where the other's listens.
pub(super) fn pairs(mine: &[LinkAddress], theirs: &[LinkAddress]) -> Vec<(usize, SocketAddr)> {
    let same_family = |a: &LinkAddress, b: &LinkAddress| a.listen.is_ipv4() == b.listen.is_ipv4();
    let namesake = |a: &LinkAddress, others: &[LinkAddress]| {
        others.iter().find(|b| a.name == b.name && same_family(a, b)).map(|b| b.listen)
    };
    let mut rest: Vec<&LinkAddress> =
        theirs.iter().filter(|link| namesake(link, mine).is_none()).collect();
    let mut pairs = Vec::new();
    for (position, link) in mine.iter().enumerate() {
        let met = namesake(link, theirs).or_else(|| {
            let next = rest.iter().position(|other| same_family(link, other))?;
            Some(rest.remove(next).listen)
        });
        pairs.extend(met.map(|address| (position, address)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(links: &[(&str, &str)]) -> Vec<LinkAddress> {
        let link = |(name, listen): &(&str, &str)| LinkAddress {
            name: (*name).to_owned(),
            listen: listen.parse().unwrap(),
        };
        links.iter().map(link).collect()
    }

    fn found(mine: &[(&str, &str)], theirs: &[(&str, &str)]) -> Vec<(String, String)> {
        let (mine, theirs) = (links(mine), links(theirs));
        let there: Vec<(SocketAddr, SocketAddr)> =
            pairs(&mine, &theirs).iter().map(|&(at, to)| (mine[at].listen, to)).collect();
        let mut back: Vec<(SocketAddr, SocketAddr)> =
            pairs(&theirs, &mine).iter().map(|&(at, to)| (to, theirs[at].listen)).collect();
        back.sort_by_key(|pair| there.iter().position(|other| other == pair));
        assert_eq!(there, back, "the same from both ends");
        there.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn links_of_one_name_meet_whatever_their_order() {
        let mine = [("lan", "10.0.0.1:7400"), ("heartbeat", "10.1.0.1:7400")];
        let theirs = [("heartbeat", "10.1.0.2:7400"), ("lan", "10.0.0.2:7400")];
        assert_eq!(
            found(&mine, &theirs),
            [pair("10.0.0.1:7400", "10.0.0.2:7400"), pair("10.1.0.1:7400", "10.1.0.2:7400")]
        );
    }

    #[test]
    fn links_of_other_names_meet_by_position_in_one_family() {
        let mine = [("a", "[fd00::1]:7400"), ("b", "10.1.0.1:7400"), ("c", "10.2.0.1:7400")];
        let theirs = [("c", "10.2.0.2:7400"), ("x", "10.1.0.2:7400"), ("y", "[fd00::2]:7400")];
        assert_eq!(
            found(&mine, &theirs),
            [
                pair("[fd00::1]:7400", "[fd00::2]:7400"),
                pair("10.1.0.1:7400", "10.1.0.2:7400"),
                pair("10.2.0.1:7400", "10.2.0.2:7400"),
            ]
        );
    }

    #[test]
    fn a_link_without_a_counterpart_stays_alone() {
        let mine = [("lan", "10.0.0.1:7400"), ("second", "10.1.0.1:7400")];
        assert_eq!(
            found(&mine, &[("lan", "10.0.0.2:7400")]),
            [pair("10.0.0.1:7400", "10.0.0.2:7400")]
        );
        assert!(found(&[("lan", "10.0.0.1:7400")], &[("lan", "[fd00::2]:7400")]).is_empty());
    }
}
