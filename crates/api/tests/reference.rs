//! `docs/reference/api.md` is made of the comments in `proto/`: every call, message and value stands there.
//!
//! After a change of these: `QUORATE_WRITE=1 cargo test -p quorate-api --test reference`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/api.md");
const OURS: &str = "quorate/v1/admin.proto";

const BEGIN: &str = "\
# API

<!-- Made by crates/api/tests/reference.rs of proto/quorate/v1/admin.proto: change that. -->

`quorate.v1` is what `quorate` itself speaks, over gRPC: on the node's socket (`/run/quorate/quorate.sock`, for root and the
group `quorate`), and on its `api` address by mutual TLS, with the certificate that `quorate context create` makes.
[examples/python](../../examples/python/README.md) is a client to begin with.

";

/// The comments of a file, by the path of what they stand at (descriptor.proto, `SourceCodeInfo`).
struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.filter_map(|location| {
            let text = location.leading_comments.as_deref()?;
            let paragraphs = text
                .split("\n\n")
                .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
            let text = paragraphs.filter(|p| !p.is_empty()).collect::<Vec<_>>().join("\n\n");
            Some((location.path.clone(), text))
        });
        Self(comments.collect())
    }

    fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    fn cell(&self, path: &[i32]) -> String {
        self.at(path).replace("\n\n", " ").replace('|', "\\|")
    }
}

/// The name behind the package's; ours with a link to where it stands.
fn link(name: &str) -> String {
    let name = name.rsplit('.').next().unwrap_or(name);
    format!("[{name}](#{})", name.to_lowercase())
}

fn type_of(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => format!("repeated {name}"),
        (_, true) => format!("optional {name}"),
        _ => name,
    }
}

fn message(message: &DescriptorProto, at: i32, comments: &Comments) -> String {
    let mut text = format!("### {}\n\n", message.name());
    let about = comments.at(&[4, at]);
    if !about.is_empty() {
        text += &format!("{about}\n\n");
    }
    if message.field.is_empty() {
        return text + "It is empty.\n\n";
    }
    text += "| field | number | type | |\n|---|---|---|---|\n";
    for (index, field) in (0..).zip(&message.field) {
        let about = comments.cell(&[4, at, 2, index]);
        let (name, number) = (field.name(), field.number());
        text += &format!("| `{name}` | {number} | {} | {about} |\n", type_of(field));
    }
    text + "\n"
}

fn enumeration(of: &EnumDescriptorProto, at: i32, comments: &Comments) -> String {
    let mut text = format!("### {}\n\n", of.name());
    let about = comments.at(&[5, at]);
    if !about.is_empty() {
        text += &format!("{about}\n\n");
    }
    text += "| value | number | |\n|---|---|---|\n";
    for (index, value) in (0..).zip(&of.value) {
        let about = comments.cell(&[5, at, 2, index]);
        text += &format!("| `{}` | {} | {about} |\n", value.name(), value.number());
    }
    text + "\n"
}

fn render(file: &FileDescriptorProto) -> String {
    let comments = Comments::of(file);
    let mut text = BEGIN.to_owned();
    // What stands above `syntax` is about all of it.
    text += &format!("{}\n\n", comments.at(&[12]));
    for (at, service) in (0..).zip(&file.service) {
        text +=
            &format!("## {}\n\n| call | request | answer | |\n|---|---|---|---|\n", service.name());
        for (index, method) in (0..).zip(&service.method) {
            let stream = if method.server_streaming() { "stream of " } else { "" };
            text += &format!(
                "| `{}` | {} | {stream}{} | {} |\n",
                method.name(),
                link(method.input_type()),
                link(method.output_type()),
                comments.cell(&[6, at, 2, index])
            );
        }
        text += "\n";
    }
    text += "## Messages\n\n";
    for (at, one) in (0..).zip(&file.message_type) {
        text += &message(one, at, &comments);
    }
    text += "## Enumerations\n\n";
    for (at, one) in (0..).zip(&file.enum_type) {
        text += &enumeration(one, at, &comments);
    }
    format!("{}\n", text.trim_end())
}

fn ours() -> FileDescriptorProto {
    let set: FileDescriptorSet =
        prost::Message::decode(quorate_api::DESCRIPTORS).unwrap_or_default();
    set.file.into_iter().find(|file| file.name() == OURS).unwrap_or_default()
}

#[test]
fn the_page_says_what_the_comments_say() {
    let rendered = render(&ours());
    if std::env::var_os("QUORATE_WRITE").is_some() {
        fs::write(PAGE, &rendered).unwrap();
    }
    let page = fs::read_to_string(Path::new(PAGE)).unwrap_or_default();
    assert!(page == rendered, "run: QUORATE_WRITE=1 cargo test -p quorate-api --test reference");
}

#[test]
fn every_call_and_every_kind_of_error_has_a_comment() {
    let file = ours();
    let comments = Comments::of(&file);
    assert!(!comments.at(&[12]).is_empty());
    for (at, service) in (0..).zip(&file.service) {
        for (index, method) in (0..).zip(&service.method) {
            assert!(!comments.at(&[6, at, 2, index]).is_empty(), "{}", method.name());
        }
    }
    let errors = (0..).zip(&file.enum_type).find(|(_, one)| one.name() == "ErrorCode");
    let (at, errors) = errors.unwrap();
    for (index, value) in (0..).zip(&errors.value) {
        assert!(!comments.at(&[5, at, 2, index]).is_empty(), "{}", value.name());
    }
}

#[test]
fn what_nodes_say_to_each_other_is_not_described() {
    let set: FileDescriptorSet = prost::Message::decode(quorate_api::DESCRIPTORS).unwrap();
    let names: Vec<&str> = set.file.iter().map(FileDescriptorProto::name).collect();
    assert_eq!(names, [OURS, "grpc/health/v1/health.proto"]);
}
