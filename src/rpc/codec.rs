//! Values as bytes: postcard, strictly.

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

/// Encodes a value.
///
/// # Errors
/// The value's own `Serialize` failed, or it holds what postcard cannot express (a sequence of unknown length).
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|error| error.to_string())
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

    #[test]
    fn bytes_that_are_left_over_are_an_error() {
        let bytes = encode(&(1u8, 2u8)).unwrap();
        assert_eq!(decode::<(u8, u8)>(&bytes), Ok((1, 2)));
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::TrailingBytes(1)));
        assert!(matches!(decode::<(u8, u8, u8)>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
