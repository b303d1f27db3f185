//! Bad input to real daemons on the host's kernel.
#![forbid(unsafe_code)]
