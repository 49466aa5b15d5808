//! Bodies of the fuzz targets. The targets under `fuzz/` are shims, and ordinary tests replay the seeds through these.
//!
//! Not part of the public interface: nothing here is promised from one version to the next.

mod operations;
mod session;
mod turn;

use alloc::vec::Vec;

pub use operations::operations;
pub use session::session;

use crate::wire::{Deframer, Error, Frame, HANDSHAKE_MAX_FRAME, LENGTH_BYTES};

/// Memory that a vector of bytes takes at the least.
const LEAST_CAPACITY: usize = 8;

/// Feeds bytes to a [`Deframer`] in pieces, and what it cuts out to [`Frame::decode`].
///
/// The first byte chooses the frame limit (its two upper bits) and the number of pieces (the other six), as many
/// bytes after it the lengths of the pieces, which repeat; the rest is the stream.
///
/// # Panics
/// If pieces change what comes out, if anything comes after an error, if more memory is held than was fed or
/// announced, or if a decoded frame is not the same after it was encoded and decoded again.
pub fn decoder(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let limit = match first >> 6 {
        0 => HANDSHAKE_MAX_FRAME,
        1 => 64,
        2 => 16 * 1024 * 1024,
        _ => u32::MAX,
    };
    let (lengths, stream) = rest.split_at(usize::from(first & 0x3f).min(rest.len()));
    let whole = cut(core::iter::once(stream), limit);
    let pieces = cut(pieces(stream, lengths), limit);
    assert!(pieces == whole, "pieces of {lengths:?} change what comes out");
    for body in &whole.0 {
        if let Ok(frame) = Frame::decode(body) {
            check_identity(&frame, body);
        }
    }
}

/// The stream in pieces of these lengths over and over; a length of 0 is a read that brought nothing.
fn pieces<'a>(stream: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut turn = 0;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length =
            lengths.get(turn % lengths.len().max(1)).map_or(rest.len(), |length| usize::from(*length));
        turn += 1;
        // Lengths that are all 0 would never come to an end.
        let length = if turn > lengths.len() { length.max(1) } else { length };
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        rest = tail;
        Some(piece)
    })
}

/// The bodies that come out of the pieces, and the error that ended them.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: u32) -> (Vec<Vec<u8>>, Option<Error>) {
    let mut deframer = Deframer::new();
    let mut bodies = Vec::new();
    let mut failed = None;
    let mut fed = 0;
    for piece in pieces {
        fed += piece.len();
        let mut input = piece;
        loop {
            let outcome = deframer.next(&mut input, limit).map(|body| body.map(Vec::from));
            assert!(failed.is_none() || outcome.as_ref().err() == failed.as_ref(), "an error is for ever");
            match outcome {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break assert!(input.is_empty(), "not yet means that everything was taken in"),
                Err(error) => break failed = Some(error),
            }
        }
        check_memory(&deframer, fed);
    }
    (bodies, failed)
}

fn check_memory(deframer: &Deframer, fed: usize) {
    let held = deframer.capacity();
    assert!(deframer.partial_len() <= fed);
    assert!(held <= 2 * deframer.partial_len() + LEAST_CAPACITY, "{held} bytes held for what came");
    if let Some(announced) = deframer.announced_len() {
        assert!(held as u64 <= announced.max(LEAST_CAPACITY as u64), "{held} bytes held for {announced}");
    }
}

/// Encodes and decodes once more. The bytes may differ, a varint may have been longer than it needs to be.
fn check_identity(frame: &Frame<'_>, body: &[u8]) {
    let limit = u32::try_from(body.len()).expect("a body has passed its limit");
    let mut again = Vec::new();
    frame.encode(limit, &mut again).expect("what was decoded can be sent, and has not grown");
    assert_eq!(Frame::decode(&again[LENGTH_BYTES..]).as_ref(), Ok(frame));
}
