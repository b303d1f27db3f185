//! Generated code of `proto/`, and the only conversions between wire, disk and model, of events to JSON, and of
//! failures to what a call's status carries.
//!
//! A conversion towards the model can fail and says where; it never panics, whatever it reads.
//! Nothing here decides anything. The tests are in `convert/tests.rs`.
#![forbid(unsafe_code)]

pub mod convert;
pub mod event;
pub mod failure;

/// The descriptors of what programs may call, with their comments (a `google.protobuf.FileDescriptorSet`).
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.binpb"));

/// The public API (`proto/quorate/v1`).
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated code; proto/ carries the comments"
    )]
    tonic::include_proto!("quorate.v1");
}

/// The health service of gRPC servers, which checks ask (`proto/grpc/health`).
pub mod health {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated code; proto/ carries the comments"
    )]
    tonic::include_proto!("grpc.health.v1");
}

/// Node to node, and what is stored on disk (`proto/quorate/peer`).
pub mod peer {
    /// The only version.
    pub mod v1 {
        #![allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::too_many_lines,
            reason = "generated code; proto/ carries the comments"
        )]
        tonic::include_proto!("quorate.peer.v1");
    }
}
