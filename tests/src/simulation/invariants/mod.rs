//! What must hold in every run, each in a file of its own, with the mutants that it catches
//! (`tests/tests/simulation.rs` runs each of them).

pub mod a_drained_server_gets_no_new_connection;
pub mod an_acknowledged_configuration_is_never_lost;
pub mod at_most_one_director_serves_a_group;
pub mod epoch_never_goes_back;
pub mod every_group_gets_an_owner;
