//! Lengths and numbers on the wire, and the errors of reading them.
//!
//! Not here: which field is written how (`field`, `value`). Invariant: nothing is allocated for a length that the bytes at
//! hand cannot fill.

use std::borrow::Cow;
use std::mem::size_of;

/// Bytes that are not a tuple of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DecodeError {
    // One word, so that a result with a number goes in registers.
    what: Box<Cow<'static, str>>,
}

impl DecodeError {
    /// An error that says what is wrong with the bytes.
    #[cold]
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        DecodeError { what: Box::new(what.into()) }
    }

    /// Bytes that end within something.
    #[cold]
    pub(crate) fn truncated() -> Self {
        DecodeError::new("the bytes end within a value")
    }

    /// Says which field was read.
    #[cold]
    #[must_use]
    pub fn in_field(self, tuple: &str, field: &str) -> Self {
        DecodeError::new(format!("tried to read field `{field}` of `{tuple}`: {}", self.what))
    }
}

/// Appends a length as LEB128: seven bits a byte, lowest first, the high bit set on all bytes but the last.
#[inline]
pub(crate) fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Reads a length that counts things of at least one byte each, so it is never greater than what remains.
#[inline]
pub(crate) fn take_length(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let mut length = 0u64;
    let mut shift = 0;
    loop {
        let [byte] = take::<1>(input)?;
        // Nine bytes hold 63 bits: more than any input has.
        if shift > 56 {
            return Err(DecodeError::new("a length is written with more than nine bytes"));
        }
        length |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    match usize::try_from(length) {
        Ok(length) if length <= input.len() => Ok(length),
        _ => Err(DecodeError::new(format!("a length of {length} is given, but {} bytes are left", input.len()))),
    }
}

/// The next `N` bytes.
#[inline]
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let Some((head, rest)) = input.split_first_chunk::<N>() else { return Err(DecodeError::truncated()) };
    *input = rest;
    Ok(*head)
}

/// The next `length` bytes.
#[inline]
pub(crate) fn take_slice<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    let Some((head, rest)) = input.split_at_checked(length) else { return Err(DecodeError::truncated()) };
    *input = rest;
    Ok(head)
}

/// Appends a length and that many bytes.
#[inline]
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Reads a length and that many bytes.
#[inline]
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = take_length(input)?;
    take_slice(input, length)
}

/// Reads a length and that many bytes of UTF-8.
#[inline]
pub(crate) fn take_str<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(take_bytes(input)?).map_err(|_| DecodeError::new("a text is not UTF-8"))
}

/// How many `T` to make room for at once when `count` are announced: no more memory than the input itself takes.
pub(crate) fn first_capacity<T>(count: usize, input: &[u8]) -> usize {
    count.min(input.len() / size_of::<T>().max(1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        let written = |length| {
            let mut out = Vec::new();
            put_length(length, &mut out);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [0x7f]);
        assert_eq!(written(128), [0x80, 0x01]);
        assert_eq!(written(300), [0xac, 0x02]);
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert_eq!(take_length(&mut &[2, 9, 9][..]), Ok(2));
        assert_eq!(
            take_length(&mut &[3, 9, 9][..]).unwrap_err().to_string(),
            "a length of 3 is given, but 2 bytes are left"
        );
        assert!(take_length(&mut &[0xff; 20][..]).unwrap_err().to_string().contains("more than nine bytes"));
        assert_eq!(take_length(&mut &[0x80][..]), Err(DecodeError::truncated()));
    }
}
