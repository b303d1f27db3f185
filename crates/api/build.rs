//! Compiles proto/ without protoc.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

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
    // What a program may ask for by reflection: with its comments, and without what nodes say to each other.
    let mut public = protox::Compiler::new([root])?;
    public.include_source_info(true).include_imports(true);
    public.open_files(["quorate/v1/admin.proto", "grpc/health/v1/health.proto"])?;
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join("public.binpb"), public.encode_file_descriptor_set())?;
    let descriptors = protox::compile(files, [root])?;
    // Frames are taken apart as they come from the network, without a copy.
    tonic_prost_build::configure().bytes(".quorate.peer.v1.Frame").compile_fds(descriptors)?;
    Ok(())
}
