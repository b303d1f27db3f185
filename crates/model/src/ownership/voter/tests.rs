//! Tests of the voter's rules.
