//! What must hold in every run, each in a file of its own. Each is proven by mutants that it
//! catches (`tests/tests/simulation.rs`).

pub mod at_most_one_director_serves_a_group;
pub mod epoch_never_goes_back;
pub mod every_group_gets_an_owner;
