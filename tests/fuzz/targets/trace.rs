//! Any bytes at all as a recorded trace: each record is read, or it is said
//! where the trace ends and why.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use host::recording::Reader;
use libfuzzer_sys::fuzz_target;

/// A few bytes of a compressed trace can stand for many records.
const MOST: usize = 10_000;

fuzz_target!(|data: &[u8]| {
    for name in ["trace.jsonl", "trace.jsonl.zst"] {
        let Ok(reader) = Reader::new(Path::new(name), Cursor::new(data.to_vec())) else { continue };
        for record in reader.take(MOST) {
            if let Err(error) = record {
                assert!(!error.to_string().is_empty(), "refused without a reason");
                break;
            }
        }
    }
});
