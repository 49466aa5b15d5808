//! Cuts a stream of bytes into frame bodies.

use alloc::vec::Vec;

use super::{Error, LENGTH_BYTES};

/// Cuts a stream of bytes, chopped in any way, into frame bodies.
///
/// Whole frames are handed out borrowed from the input itself; only an unfinished one is copied, and memory for it is
/// taken as its bytes arrive, whatever its length field promises. While nothing is unfinished it holds no memory.
/// After an error it says the same error for ever: nothing more is decoded from that connection.
#[derive(Debug, Default)]
pub struct Deframer {
    /// The beginning of an unfinished frame, length field included.
    partial: Vec<u8>,
    /// `partial` was handed out whole and is to be dropped at the next call.
    handed_out: bool,
    failed: Option<Error>,
}

impl Deframer {
    /// A deframer at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame's body off the front of `input`.
    ///
    /// `Ok(None)` means "not yet": all of `input` has been taken in. The limit is in bytes after the length field and
    /// is compared as soon as the four length bytes are there.
    ///
    /// # Errors
    /// [`Error::FrameTooLong`] or [`Error::Empty`], from then on at every call.
    pub fn next<'a>(&'a mut self, input: &mut &'a [u8], limit: u32) -> Result<Option<&'a [u8]>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.handed_out {
            self.handed_out = false;
            self.partial = Vec::new();
        }
        if self.partial.is_empty() {
            match whole_frame(input, limit) {
                Ok(Some(len)) => {
                    let (frame, rest) = input.split_at(LENGTH_BYTES + len);
                    *input = rest;
                    return Ok(Some(&frame[LENGTH_BYTES..]));
                }
                Ok(None) => {
                    self.partial.extend_from_slice(input);
                    *input = &[];
                    return Ok(None);
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.fill(input, LENGTH_BYTES);
        let total = match announced(&self.partial, limit) {
            Ok(Some(len)) => LENGTH_BYTES + len,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        self.fill(input, total);
        if self.partial.len() < total {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(&self.partial[LENGTH_BYTES..]))
    }

    /// Bytes held of an unfinished frame, length field included; 0 between frames.
    pub fn partial_len(&self) -> usize {
        if self.handed_out {
            0
        } else {
            self.partial.len()
        }
    }

    /// Bytes that the unfinished frame has announced, length field included; `None` between frames or before all
    /// four bytes of its length are there.
    pub fn announced_len(&self) -> Option<u64> {
        if self.handed_out {
            return None;
        }
        let length = self.partial.get(..LENGTH_BYTES)?;
        let len = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
        Some(u64::from(len) + LENGTH_BYTES as u64)
    }

    /// Moves bytes from the input until `partial` has `total` of them.
    fn fill(&mut self, input: &mut &[u8], total: usize) {
        let missing = total.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    fn fail(&mut self, error: Error) -> Error {
        self.partial = Vec::new();
        self.failed = Some(error);
        error
    }
}

/// The body length of the frame at the front of `bytes`, if all of it is there.
fn whole_frame(bytes: &[u8], limit: u32) -> Result<Option<usize>, Error> {
    Ok(announced(bytes, limit)?.filter(|len| bytes.len() - LENGTH_BYTES >= *len))
}

/// The body length that the front of `bytes` announces, checked against the limit before anything else is done.
fn announced(bytes: &[u8], limit: u32) -> Result<Option<usize>, Error> {
    let Some(length) = bytes.get(..LENGTH_BYTES) else { return Ok(None) };
    let len = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
    if len > limit {
        return Err(Error::FrameTooLong { len, limit });
    }
    if len == 0 {
        return Err(Error::Empty);
    }
    Ok(Some(usize::try_from(len).map_err(|_| Error::FrameTooLong { len, limit })?))
}
