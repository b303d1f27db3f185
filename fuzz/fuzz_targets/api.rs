//! What is done with the bytes, and the rule that holds, stands in `tests/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_tests::fuzzing::api(bytes));
