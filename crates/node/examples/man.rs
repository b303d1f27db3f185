//! Writes quorated.8, the daemon's man page, of the arguments that it reads: for packages.
//! `cargo run -p quorate-node --example man -- DIR`

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use quorate_node::cli::Cli;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("it takes the folder to write to")?;
    let folder = PathBuf::from(folder);
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).section("8").render(&mut page)?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("quorated.8"), page)?;
    Ok(())
}
