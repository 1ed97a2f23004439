//! The name of a file as a blob.
//!
//! Not here: what is done with it (`verbs`). Invariant: memory does not grow with the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use worker_api::ids::BlobHash;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The hash of a file, and how many bytes it has.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn of_file(path: &Path) -> io::Result<(BlobHash, u64)> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((BlobHash::of(digest.finalize().into()), bytes));
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
}
