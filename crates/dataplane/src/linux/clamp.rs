//! What a real server behind a tunnel tells clients of the longest segment that it takes (MSS): what fits
//! the tunnel. A table of nftables for each VIP, so that one goes without the others. nft's `maxseg`
//! only ever makes it smaller (`nft_exthdr_tcp_set_eval`, net/netfilter/nft_exthdr.c).
//!
//! Tests: below for the text; `lab_ipvs_realserver` on the kernel, `lab_ipvs_modes` with traffic.

use std::net::IpAddr;

use serde_json::Value;

use super::nft::{list, nft};
use crate::error::{DataplaneError, Operation};

/// Headers of IP and TCP without options (RFC 6691).
const HEADERS_V4: u32 = 40;
const HEADERS_V6: u32 = 60;

/// The longest segment that fits packets of this length; `None`: none would.
pub(super) fn longest_segment(vip: IpAddr, mtu: u32) -> Option<u16> {
    let headers = if vip.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
    u16::try_from(mtu.checked_sub(headers)?).ok().filter(|mss| *mss > 0)
}

/// Whether it stands, with this segment.
pub(super) fn stands(vip: IpAddr, mss: u16) -> Result<bool, DataplaneError> {
    let answer = list(&table(vip), || Operation::Clamp(vip))?;
    Ok(answer.is_some_and(|answer| is_ours(&answer, vip, mss)))
}

pub(super) fn set(vip: IpAddr, mss: u16) -> Result<(), DataplaneError> {
    nft(&["-f", "-"], Some(script(vip, mss)), || Operation::Clamp(vip)).map(drop)
}

/// Takes it away; whether it was there.
pub(super) fn unset(vip: IpAddr) -> Result<bool, DataplaneError> {
    let doing = || Operation::Clamp(vip);
    let table = table(vip);
    match list(&table, doing) {
        // Without nft there was none to set it with.
        Ok(None) | Err(DataplaneError::NoNft { .. }) => return Ok(false),
        Ok(Some(_)) => {}
        Err(error) => return Err(error),
    }
    nft(&["delete", "table", "inet", &table], None, doing).map(|_| true)
}

fn table(vip: IpAddr) -> String {
    match vip {
        IpAddr::V4(address) => format!("quorate_rs_{address}"),
        IpAddr::V6(address) => format!("quorate_rs_{:032x}", u128::from(address)),
    }
}

fn script(vip: IpAddr, mss: u16) -> String {
    let (table, header) = (table(vip), if vip.is_ipv4() { "ip" } else { "ip6" });
    format!(
        "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain output {{\n    type \
         filter hook output priority -150; policy accept;\n    {header} saddr {vip} tcp flags syn / \
         syn,rst tcp option maxseg size set {mss}\n  }}\n}}\n"
    )
}

/// Whether a table as nft lists it has a chain at the output, and there a rule for the VIP that sets
/// this segment.
fn is_ours(answer: &[u8], vip: IpAddr, mss: u16) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return false };
    let objects = answer.get("nftables").and_then(Value::as_array);
    let objects = objects.map(Vec::as_slice).unwrap_or_default();
    let hooked = objects.iter().filter_map(|object| object.get("chain")?.get("hook")?.as_str());
    let sets = |object: &Value| {
        let parts = object.get("rule")?.get("expr")?.as_array()?;
        let from = |part: &Value| part.get("match")?.get("right")?.as_str()?.parse().ok();
        let of_vip = parts.iter().filter_map(from).any(|from: IpAddr| from == vip);
        let set = parts.last()?.get("mangle")?;
        let option = set.get("key")?.get("tcp option")?.get("name")?.as_str()?;
        Some(of_vip && option == "maxseg" && set.get("value")?.as_u64()? == u64::from(mss))
    };
    hooked.eq(["output"]) && objects.iter().any(|object| sets(object) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_fits_with_its_headers() {
        let of = |vip: &str, mtu| longest_segment(vip.parse().unwrap(), mtu);
        assert_eq!((of("192.0.2.80", 1480), of("2001:db8::80", 1452)), (Some(1440), Some(1392)));
        assert_eq!((of("192.0.2.80", 40), of("2001:db8::80", 0)), (None, None));
        assert_eq!(of("192.0.2.80", u32::MAX), None);
    }

    #[test]
    fn each_vip_has_a_table_of_its_own() {
        let text = script("192.0.2.80".parse().unwrap(), 1440);
        assert!(text.starts_with("table inet quorate_rs_192.0.2.80\ndelete table"), "{text}");
        assert!(text.contains(
            "ip saddr 192.0.2.80 tcp flags syn / syn,rst tcp option maxseg size set 1440"
        ));
        let text = script("2001:db8::80".parse().unwrap(), 1392);
        let table = "quorate_rs_20010db8000000000000000000000080";
        assert!(text.starts_with(&format!("table inet {table}\n")), "{text}");
    }

    /// As nft 1.0.6 writes it.
    const LISTED: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "quorate_rs_192.0.2.80", "handle": 2}},
        {"chain": {"family": "inet", "table": "quorate_rs_192.0.2.80", "name": "output", "handle": 1,
            "type": "filter", "hook": "output", "prio": -150, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "quorate_rs_192.0.2.80", "chain": "output", "handle": 2,
            "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
            "right": "192.0.2.80"}}, {"match": {"op": "==", "left": 1, "right": 2}},
            {"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1440}}]}}]}"#;

    #[test]
    fn only_what_was_set_is_taken_for_ours() {
        let vip = "192.0.2.80".parse().unwrap();
        assert!(is_ours(LISTED.as_bytes(), vip, 1440));
        assert!(!is_ours(LISTED.as_bytes(), vip, 1400));
        assert!(!is_ours(LISTED.as_bytes(), "192.0.2.81".parse().unwrap(), 1440));
        assert!(!is_ours(
            LISTED.replace("\"hook\": \"output\"", "\"hook\": \"input\"").as_bytes(),
            vip,
            1440
        ));
        assert!(!is_ours(b"rubbish", vip, 1440));
    }
}
