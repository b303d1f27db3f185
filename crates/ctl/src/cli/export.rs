//! `quorate export keepalived`.

use clap::Args;
use quorate_model::id::{DeviceName, NodeName};

/// `quorate export keepalived`.
#[derive(Debug, Args)]
pub struct ExportKeepalived {
    /// The director whose file it is; needed where groups name several
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
    /// A configuration of Quorate, TOML or JSON, in place of the one in force; `-` reads stdin. Then no
    /// node is asked
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<String>,
    /// The number of a group's virtual router, such as web=51; repeatable [default: from the group's
    /// name, alike on every director]
    #[arg(long, value_name = "GROUP=N", value_parser = router_id)]
    pub router_id: Vec<(String, u8)>,
    /// The device of an interface or a link, as the director's node.toml has it, such as public=eth0;
    /// repeatable [default: the name of the interface]
    #[arg(long, value_name = "NAME=DEVICE", value_parser = device)]
    pub device: Vec<(String, String)>,
    /// Who runs programs that name no user [default: root]
    #[arg(long, value_name = "USER", value_parser = user)]
    pub script_user: Option<String>,
}

/// Reads `web=51`.
fn router_id(text: &str) -> Result<(String, u8), String> {
    let wrong =
        || format!("{text:?} is no group with a number from 1 to 255: write it like web=51");
    let (group, id) = text.split_once('=').ok_or_else(wrong)?;
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
    Ok((group.to_owned(), id))
}

/// Reads `public=eth0`.
fn device(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no interface with its device: write it like public=eth0");
    let (name, device) = text.split_once('=').ok_or_else(wrong)?;
    device.parse::<DeviceName>().map_err(|_| wrong())?;
    let plain = |c: char| c.is_ascii_graphic() && !"#!\"'{}\\$~@".contains(c);
    if name.is_empty() || !device.chars().all(plain) {
        return Err(wrong());
    }
    Ok((name.to_owned(), device.to_owned()))
}

fn user(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !text.is_empty() && text.len() <= 32 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no user's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_devices_and_users_are_read_or_refused() {
        assert_eq!(router_id("web=51"), Ok(("web".to_owned(), 51)));
        for bad in ["web", "web=0", "web=256", "web=x"] {
            assert!(router_id(bad).is_err(), "{bad:?}");
        }
        assert_eq!(device("public=eth0.7"), Ok(("public".to_owned(), "eth0.7".to_owned())));
        for bad in ["eth0", "=eth0", "a=", "a=b c", "a=b#", "a=sixteen_letters_x"] {
            assert!(device(bad).is_err(), "{bad:?}");
        }
        assert_eq!(user("nobody"), Ok("nobody".to_owned()));
        for bad in ["", "a b", "a#"] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }
}
