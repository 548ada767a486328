//! See `tests/carbon/anything.rs`, which the ordinary tests run as well.

#![no_main]

#[path = "../../tests/carbon/anything.rs"]
mod anything;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    anything::evaluate(input);
});
