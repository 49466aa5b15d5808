//! A shim; the body and what it promises are in `pulsewire::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pulsewire::fuzz::session(bytes));
