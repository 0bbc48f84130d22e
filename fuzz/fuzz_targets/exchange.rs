//! Requests and responses in a row, played to Larder and to the reference model of `tests/model/`,
//! which also says what an input looks like.

#![no_main]

#[path = "../../tests/model/exchange.rs"]
mod exchange;
#[path = "../../tests/model/rfc.rs"]
mod rfc;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Err(find) = exchange::play(text) {
        panic!("{find}");
    }
});
