//! Quorate's tests across crates, as a library: the lab (deployments in network namespaces, and
//! the virtual machine for hosts without IPVS) and what the test files in `tests/tests` share.
//! Never a dependency of anything that ships; only `xtask` uses it besides the tests.
#![forbid(unsafe_code)]

#[cfg(feature = "suites")]
pub mod contract;
pub mod dice;
pub mod failover;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod lab;
pub mod loss;
#[cfg(feature = "suites")]
pub mod ownership;
pub mod probing;
#[cfg(feature = "suites")]
pub mod scale;
#[cfg(feature = "suites")]
pub mod simulation;
pub mod soak;
