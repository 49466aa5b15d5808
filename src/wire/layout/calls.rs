//! Requests and replies without the codec: two frames for each call, at both ends.

use alloc::vec::Vec;

use super::super::{Ids, Kind, Reply, Status, TooLong, LENGTH_BYTES, MAX_NAME_BYTES};

/// What a Request frame is made of, the function's name as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestParts<'a> {
    pub(crate) id: u64,
    pub(crate) time_left_ms: u32,
    /// Within its limit.
    pub(crate) function: &'a [u8],
    pub(crate) settled: Ids<'a>,
    pub(crate) arguments: &'a [u8],
}

impl RequestParts<'_> {
    /// The most bytes before the arguments if so many bytes of ids are settled.
    pub(crate) const fn most_head_bytes(settled: usize) -> usize {
        HEAD_BYTES + varint_len(MAX_NAME_BYTES) + MAX_NAME_BYTES + varint_len(settled) + settled
    }

    /// The frame's length without its length field.
    pub(crate) fn frame_len(&self) -> u64 {
        self.head_len() + self.arguments.len() as u64
    }

    /// The same without the arguments.
    fn head_len(&self) -> u64 {
        let settled = self.settled.as_bytes().len();
        let lists = varint_len(self.function.len()) + self.function.len() + varint_len(settled) + settled;
        (HEAD_BYTES - LENGTH_BYTES + lists) as u64
    }

    /// Appends the whole frame: what the codec would write.
    ///
    /// # Errors
    /// [`TooLong`] if it exceeds the limit, which is in bytes after the length field; then nothing was copied.
    pub(crate) fn encode(&self, max_frame: u32, out: &mut Vec<u8>) -> Result<(), TooLong> {
        out.reserve(LENGTH_BYTES + within(self.frame_len(), max_frame)? as usize);
        self.encode_head(self.arguments.len(), max_frame, out)?;
        out.extend_from_slice(self.arguments);
        Ok(())
    }

    /// Appends what comes before the arguments, which are so long; its own are not looked at.
    ///
    /// # Errors
    /// As for [`RequestParts::encode`].
    pub(crate) fn encode_head(
        &self,
        arguments: usize,
        max_frame: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLong> {
        let len = within(self.head_len() + arguments as u64, max_frame)?;
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4] = Kind::Request as u8;
        head[5..13].copy_from_slice(&self.id.to_le_bytes());
        head[13..].copy_from_slice(&self.time_left_ms.to_le_bytes());
        out.extend_from_slice(&head);
        put_bytes(self.function, out);
        put_bytes(self.settled.as_bytes(), out);
        Ok(())
    }
}

/// What lies in a Request frame behind its kind, if its lists are short and their lengths written in the shortest way.
/// Nobody has looked at the name.
#[inline]
pub(in super::super) fn split_request(bytes: &[u8]) -> Option<RequestParts<'_>> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (time_left_ms, rest) = rest.split_first_chunk()?;
    let (function, rest) = split_bytes(rest)?;
    let (settled, arguments) = split_bytes(rest)?;
    Some(RequestParts {
        id: u64::from_le_bytes(*id),
        time_left_ms: u32::from_le_bytes(*time_left_ms),
        function,
        settled: Ids::from_bytes(settled)?,
        arguments,
    })
}

/// Appends a whole Reply frame with a result: what the codec would write.
///
/// # Errors
/// As for [`RequestParts::encode`].
#[inline]
pub(in super::super) fn put_result(
    id: u64,
    payload: &[u8],
    max_frame: u32,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let total = RESULT_HEAD_BYTES + payload.len();
    let head = result_head(id, total, max_frame)?;
    out.reserve(total);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    Ok(())
}

/// Makes a whole Reply frame of a result that lies in `frame` behind room for its head, [`RESULT_HEAD_BYTES`] of it.
///
/// # Errors
/// As for [`RequestParts::encode`].
pub(crate) fn complete_result(id: u64, max_frame: u32, frame: &mut [u8]) -> Result<(), TooLong> {
    let head = result_head(id, frame.len(), max_frame)?;
    frame[..RESULT_HEAD_BYTES].copy_from_slice(&head);
    Ok(())
}

#[inline]
fn result_head(id: u64, total: usize, max_frame: u32) -> Result<[u8; RESULT_HEAD_BYTES], TooLong> {
    let len = within((total - LENGTH_BYTES) as u64, max_frame)?;
    let mut head = [0; RESULT_HEAD_BYTES];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4] = Kind::Reply as u8;
    head[5..13].copy_from_slice(&id.to_le_bytes());
    head[13] = OK;
    Ok(head)
}

/// What lies in a Reply frame behind its kind, if it holds a result.
#[inline]
pub(in super::super) fn split_result(bytes: &[u8]) -> Option<(Reply, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (&OK, payload) = rest.split_first()? else { return None };
    Some((Reply { id: u64::from_le_bytes(*id), status: Status::Ok }, payload))
}

/// Bytes before the first list of a Request frame: its length, its kind, the id, and the time left.
const HEAD_BYTES: usize = LENGTH_BYTES + 1 + 8 + 4;
/// Bytes before the payload of a Reply frame with a result.
pub(crate) const RESULT_HEAD_BYTES: usize = LENGTH_BYTES + 1 + 8 + 1;
/// The status of a result, as the codec writes it.
const OK: u8 = 0;

fn within(len: u64, max_frame: u32) -> Result<u32, TooLong> {
    let fits = u32::try_from(len).ok().filter(|len| *len <= max_frame);
    fits.ok_or(TooLong { len, limit: max_frame })
}

const fn varint_len(value: usize) -> usize {
    // The least of numbers takes a byte as well.
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends a list behind its length: seven bits of it a byte, the lowest first.
#[inline]
fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut len = bytes.len();
    while len > 0x7f {
        out.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    out.push(len.to_le_bytes()[0]);
    out.extend_from_slice(bytes);
}

/// A list of less than 16 KiB and what lies behind it, if its length is written in the shortest way.
#[inline]
pub(super) fn split_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match bytes {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [low, high @ 1..=0x7f, rest @ ..] => (usize::from(low & 0x7f) | usize::from(*high) << 7, rest),
        _ => return None,
    };
    rest.split_at_checked(len)
}
