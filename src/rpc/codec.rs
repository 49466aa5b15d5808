//! Values as bytes: postcard, strictly.

use std::cell::RefCell;
use std::string::{String, ToString};
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

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

std::thread_local! {
    /// What this thread encodes in.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A larger buffer is not kept for the thread's next value.
const KEPT_BYTES: usize = 16 * 1024;

/// Encodes a value and hands its bytes on, in a buffer that the thread keeps for the next one.
///
/// # Errors
/// The value's own `Serialize` failed, or it holds what postcard cannot express (a sequence of unknown length).
pub(crate) fn encoded<T: Serialize + ?Sized, R>(
    value: &T,
    use_it: impl FnOnce(&[u8]) -> R,
) -> Result<R, String> {
    // Taken and not borrowed: the value's own code may come here again, and threads end.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    buffer.clear();
    let bytes = postcard::to_extend(value, buffer).map_err(|error| error.to_string())?;
    let result = use_it(&bytes);
    if bytes.capacity() <= KEPT_BYTES {
        let _ = BUFFER.try_with(|buffer| buffer.replace(bytes));
    }
    Ok(result)
}

/// Encodes a value into an empty buffer.
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
        encoded(value, <[u8]>::to_vec)
    }

    #[test]
    fn bytes_that_are_left_over_are_an_error() {
        let bytes = encode(&(1u8, 2u8)).unwrap();
        assert_eq!(decode::<(u8, u8)>(&bytes), Ok((1, 2)));
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::TrailingBytes(1)));
        assert!(matches!(decode::<(u8, u8, u8)>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
