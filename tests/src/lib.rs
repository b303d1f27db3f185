//! Lab, invariants, contract.
