//! `node.toml`: what it may say, what is refused, and that its page says the same.

use super::*;
use quorate_model::spec::document::Presence;

const WHOLE: &str = r#"
name     = "lb1"
role     = "director"
data_dir = "/srv/quorate"
socket   = "/run/quorate/other.sock"
api      = "192.168.10.80:7401"
http     = "127.0.0.1:7402"
events_fifo = "/run/quorate/events"
sysctl   = "check"

[[link]]
name   = "lan"
listen = "192.168.10.80:7400"
[[link]]
name   = "heartbeat"
listen = "[2001:db8::80]:7400"

[interfaces]
public = "ens33"
inside = "bond0.12"
"#;

const SHORT: &str = "name = \"w1\"\nrole = \"witness\"\n\
                     link = [{ name = \"lan\", listen = \"127.0.0.1:7400\" }]\n";

fn read(source: &str) -> NodeConfig {
    match parse(source) {
        Ok(config) => config,
        Err(wrong) => panic!("refused:\n{}", wrong.render("node.toml", source)),
    }
}

fn refused(lines: &str) -> String {
    parse(&format!("{SHORT}{lines}\n")).expect_err("accepted").to_string()
}

#[test]
fn every_key_is_taken() {
    let config = read(WHOLE);
    assert_eq!(config.name.as_str(), "lb1");
    assert_eq!(config.role, Role::Director);
    assert_eq!(config.data_dir, Path::new("/srv/quorate"));
    assert_eq!(config.socket, Path::new("/run/quorate/other.sock"));
    assert_eq!(config.api, "192.168.10.80:7401".parse().ok());
    assert_eq!(config.http, "127.0.0.1:7402".parse().ok());
    assert_eq!(config.events_fifo.as_deref(), Some(Path::new("/run/quorate/events")));
    assert_eq!(config.sysctl, Sysctl::Check);
    let links: Vec<_> = config.links.iter().map(|l| format!("{} {}", l.name, l.listen)).collect();
    assert_eq!(links, ["lan 192.168.10.80:7400", "heartbeat [2001:db8::80]:7400"]);
    let devices: Vec<_> = config.interfaces.iter().map(|(n, d)| format!("{n} {d}")).collect();
    assert_eq!(devices, ["inside bond0.12", "public ens33"]);
}

#[test]
fn every_default_written_out_means_the_same_as_leaving_it_out() {
    let mut long = String::new();
    for key in ROOT.keys {
        if let Presence::Default(default) = key.presence {
            long.push_str(&format!("{} = {default}\n", key.name));
        }
    }
    assert!(long.contains("sysctl"));
    assert_eq!(read(&format!("{long}{SHORT}")), read(SHORT));
    let config = read(SHORT);
    assert_eq!((config.api, config.http, config.interfaces.len()), (None, None, 0));
}

#[test]
fn every_error_is_shown_at_once() {
    let source = "name = \"lb 1\"\nrole = \"directer\"\nsocket = \"quorate.sock\"\n\
                  data-dir = \"/x\"\ntiming = \"lan\"\n[[link]]\nname = \"lan\"\n\
                  listen = \"0.0.0.0:7400\"\n";
    let expected = r#"error: "lb 1" is not the name of a node: ' ' is not allowed here: use a-z, A-Z, 0-9, and inside the name also - _ .
 --> node.toml:1:8 (name)
  |
1 | name = "lb 1"
  |        ^^^^^^

error: unknown role "directer"
 --> node.toml:2:8 (role)
  |
2 | role = "directer"
  |        ^^^^^^^^^^
  = help: did you mean "director"?

error: socket is not an absolute path
 --> node.toml:3:10 (socket)
  |
3 | socket = "quorate.sock"
  |          ^^^^^^^^^^^^^^
  = help: a path that begins with /

error: unknown key "data-dir"
 --> node.toml:4:1 (data-dir)
  |
4 | data-dir = "/x"
  | ^^^^^^^^
  = help: did you mean "data_dir"?

error: unknown key "timing"
 --> node.toml:5:1 (timing)
  |
5 | timing = "lan"
  | ^^^^^^
  = help: write it into the cluster's configuration instead

error: 0.0.0.0 is every address
 --> node.toml:8:10 (link[0].listen)
  |
8 | listen = "0.0.0.0:7400"
  |          ^^^^^^^^^^^^^^
  = help: give this node's own address: the others are told it to reach this one
"#;
    assert_eq!(parse(source).expect_err("accepted").render("node.toml", source), expected);
}

#[test]
fn nothing_given_names_what_is_missing() {
    let wrong = parse("").expect_err("accepted").to_string();
    assert_eq!(
        wrong,
        "1:1: name: \"name\" is missing\n1:1: role: \"role\" is missing\n\
         1:1: link: \"link\" is missing"
    );
}

#[test]
fn two_things_cant_listen_on_one_address() {
    for (lines, expected) in [
        ("api = \"127.0.0.1:7400\"", "4:7: api: link lan already listens on 127.0.0.1:7400"),
        ("api = \"0.0.0.0:7400\"", "4:7: api: link lan already listens on 127.0.0.1:7400"),
        (
            "api = \"0.0.0.0:7401\"\nhttp = \"127.0.0.1:7401\"",
            "5:8: http: api already listens on 0.0.0.0:7401",
        ),
    ] {
        assert_eq!(refused(lines), format!("{expected} (use another port or address)"));
    }
    let two = |second: &str| {
        let link =
            format!("[[link]]\nname = \"a\"\nlisten = \"192.0.2.1:1\"\n[[link]]\n{second}\n");
        let source = format!("name = \"w\"\nrole = \"witness\"\n{link}");
        parse(&source).expect_err("accepted").to_string()
    };
    assert_eq!(
        two("name = \"a\"\nlisten = \"192.0.2.2:1\""),
        "7:8: link[1].name: two links are called a (give each a name of its own)"
    );
    assert_eq!(
        two("name = \"b\"\nlisten = \"192.0.2.1:1\""),
        "8:10: link[1].listen: link a already listens on 192.0.2.1:1 (use another port or address)"
    );
    assert_eq!(two("name = \"b\""), "6:1: link[1].listen: \"listen\" is missing");
}

#[test]
fn what_is_no_address_path_or_device_is_refused() {
    for (lines, expected) in [
        (
            "api = \"127.0.0.1\"",
            "4:7: api: \"127.0.0.1\" has no port (append one: \"127.0.0.1:80\")",
        ),
        (
            "events_fifo = \"events\"",
            "4:15: events_fifo: events_fifo is not an absolute path (a path that begins with /)",
        ),
        ("http = \"127.0.0.1:0\"", "4:8: http: port 0 is not a port (use 1 to 65535)"),
        ("http = \"224.0.0.1:80\"", "4:8: http: 224.0.0.1 is a multicast address"),
        (
            "data_dir = \"\"",
            "4:12: data_dir: data_dir is not an absolute path (a path that begins with /)",
        ),
        ("sysctl = \"chekc\"", "4:10: sysctl: unknown sysctl \"chekc\" (did you mean \"check\"?)"),
        ("sysctl = true", "4:10: sysctl: a word for sysctl is expected here, not true or false"),
        (
            "interfaces.public = \"eth0/1\"",
            "4:21: interfaces.public: \"eth0/1\" is not the name of a network device: '/' is not \
             allowed in the name of a device",
        ),
    ] {
        assert_eq!(refused(lines), expected);
    }
    let long = format!("socket = \"/{}\"", "s".repeat(107));
    assert_eq!(
        refused(&long),
        "4:10: socket: the path of a unix socket has at most 107 bytes (unix(7))"
    );
    let one = "name = \"w\"\nrole = \"witness\"\n[link]\nname = \"a\"\n";
    assert_eq!(
        parse(one).expect_err("accepted").to_string(),
        "3:1: link: links are a list of tables (write [[link]] with two brackets)"
    );
}

#[test]
fn a_file_that_cant_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.toml");
    let error = load(&path).expect_err("no file").to_string();
    assert!(error.starts_with(&format!("can't read {}: ", path.display())), "{error}");

    std::fs::write(&path, b"name = \"a\"\nrole = \"\xff\"\n").expect("written");
    let error = load(&path).expect_err("no text").to_string();
    assert_eq!(error, format!("{} is not UTF-8 text (line 2)", path.display()));

    std::fs::write(&path, "#".repeat(DOCUMENT_BYTES_MAX + 1)).expect("written");
    assert!(matches!(load(&path), Err(ConfigError::TooLarge(_))));

    std::fs::write(&path, "name = 5").expect("written");
    let error = load(&path).expect_err("wrong").to_string();
    assert!(error.contains(&format!("{}:1:8 (name)", path.display())), "{error}");

    std::fs::write(&path, WHOLE).expect("written");
    assert_eq!(load(&path).expect("right"), read(WHOLE));
}

#[test]
fn the_reference_page_states_every_key_and_default() {
    let page = include_str!("../../../../docs/reference/configuration.md");
    let wrong = document::page_differences(page, "node.toml", &TABLES);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
