//! Compiles proto/ without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    let files = [
        "quorate/v1/admin.proto",
        "quorate/peer/v1/peer.proto",
        "quorate/peer/v1/store.proto",
        "grpc/health/v1/health.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={root}/{file}");
    }
    let descriptors = protox::compile(files, [root])?;
    // Frames are taken apart as they come from the network, without a copy.
    tonic_prost_build::configure().bytes(".quorate.peer.v1.Frame").compile_fds(descriptors)?;
    Ok(())
}
