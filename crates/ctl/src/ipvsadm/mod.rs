//! The words of ipvsadm(8): a configuration as `ipvsadm-save -n` writes a table, and back. Pure.

mod export;
mod import;

pub use export::export;
pub use import::{Imported, Options, import};
