//! Values as bytes: postcard, strictly.

use std::cell::RefCell;
use std::string::{String, ToString};
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::pattern::{self, Limits};

/// Why bytes are not the value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// postcard says no.
    #[error("{0}")]
    Malformed(String),
    /// The value ends before its bytes do: it was encoded as another type.
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
}

/// What a thread encodes in, and keeps for its next value.
#[derive(Debug, Default)]
struct Kept {
    buffer: Vec<u8>,
    /// Times in a row that a large buffer was not needed.
    small: u32,
}

std::thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffer: Vec::new(), small: 0 }) };
}

/// Room in front of an encoded value, for whoever makes a message of its buffer.
pub(crate) const FRONT_BYTES: usize = pattern::REQUEST_FRONT_BYTES;
/// What a thread may keep in any case: a value of 16 KiB, and what is around it.
const KEPT_BYTES: usize = 17 * 1024;
/// So many values that needed no large buffer, one after the other, and it is let go of.
const SMALL_IN_A_ROW: u32 = 64;

/// Encodes a value and hands its buffer on, where it lies behind [`FRONT_BYTES`] of room. Unless that is taken, the thread
/// keeps it for its next value: a large one up to `most_kept` bytes, or if it was kept before, and while there are large
/// values.
///
/// # Errors
/// The value's own `Serialize` failed, or it holds what postcard cannot express (a sequence of unknown length).
pub(crate) fn encoded<T: Serialize + ?Sized, R>(
    value: &T,
    most_kept: usize,
    use_it: impl FnOnce(&mut Vec<u8>) -> R,
) -> Result<R, String> {
    // Taken and not borrowed: the value's own code may come here again, and threads end.
    let Kept { mut buffer, small } = KEPT.try_with(RefCell::take).unwrap_or_default();
    let had = buffer.capacity();
    buffer.resize(FRONT_BYTES, 0);
    let mut buffer = postcard::to_extend(value, buffer).map_err(|error| error.to_string())?;
    let result = use_it(&mut buffer);
    let mut kept = Kept { buffer, small: 0 };
    if kept.buffer.capacity() > KEPT_BYTES {
        kept.small = if kept.buffer.len() > KEPT_BYTES { 0 } else { small + 1 };
        let is_too_large = kept.buffer.capacity() > most_kept.max(had);
        if is_too_large || kept.small >= SMALL_IN_A_ROW {
            return Ok(result);
        }
    }
    let _ = KEPT.try_with(|place| place.replace(kept));
    Ok(result)
}

/// The most bytes that a thread keeps of a large buffer in which it has encoded arguments, or from which it has decoded a
/// result, for the next one. 2 MiB by default.
pub(crate) fn most_kept(limits: &Limits) -> usize {
    usize::try_from(limits.held_requests_bytes / 16).unwrap_or(usize::MAX)
}

/// Keeps a large buffer that is no longer needed for the thread's next value. It comes back if the thread has one.
pub(crate) fn keep(buffer: Vec<u8>, most_kept: usize) -> Option<Vec<u8>> {
    if !(KEPT_BYTES + 1..=most_kept).contains(&buffer.capacity()) {
        return None;
    }
    let swap = |kept: &RefCell<Kept>| {
        let mut kept = kept.borrow_mut();
        if kept.buffer.capacity() > KEPT_BYTES {
            return Some(buffer);
        }
        *kept = Kept { buffer, small: 0 };
        None
    };
    KEPT.try_with(swap).ok().flatten()
}

/// Appends an encoded value to a buffer.
///
/// # Errors
/// As for [`encoded`]; what is in the buffer then is nothing to rely on.
pub(crate) fn encode_into<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), String> {
    let bytes = postcard::to_extend(value, core::mem::take(buffer)).map_err(|error| error.to_string())?;
    *buffer = bytes;
    Ok(())
}

/// Decodes a value, all of the bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::TrailingBytes(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
        encoded(value, 0, |buffer| buffer[FRONT_BYTES..].to_vec())
    }

    #[test]
    fn bytes_that_are_left_over_are_an_error() {
        let bytes = encode(&(1u8, 2u8)).unwrap();
        assert_eq!(decode::<(u8, u8)>(&bytes), Ok((1, 2)));
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::TrailingBytes(1)));
        assert!(matches!(decode::<(u8, u8, u8)>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
