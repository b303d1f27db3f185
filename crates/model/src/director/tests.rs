//! Tests of one director.
