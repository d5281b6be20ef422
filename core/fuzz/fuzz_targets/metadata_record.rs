//! Wraps `mainspring_core::wire::fuzz::metadata_record` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mainspring_core::wire::fuzz::metadata_record(data));
