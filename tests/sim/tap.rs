//! Listens to what a caller's driver writes, and so knows which calls can have reached a server.

use std::collections::{BTreeMap, BTreeSet};

use pulsewire::pattern::ConnId;
use pulsewire::wire::{Frame, LENGTH_BYTES};

use super::oracle::Token;

/// Which calls have left, whole or in part, as far as a kernel knows.
#[derive(Debug, Default)]
pub struct Tap {
    lines: BTreeMap<ConnId, Line>,
    /// Calls whose last byte a kernel has taken, on whatever connection.
    whole: BTreeSet<Token>,
    /// Calls that were begun, or in a chunk, when their connection went, in this turn.
    cut: Vec<Token>,
}

#[derive(Debug, Default)]
struct Line {
    /// The frame that is begun: bytes of it still to be written, and its call, if it is one.
    rest: usize,
    begun: Option<Token>,
    /// The frames that begin in the chunk that is out: where, where they end, and their calls.
    out: Vec<(usize, usize, Option<Token>)>,
    is_lent: bool,
    /// The connection is gone, and its chunk is still out.
    is_lost: bool,
}

impl Tap {
    /// A turn begins.
    pub fn forget_cut(&mut self) {
        self.cut.clear();
    }

    /// A chunk is to be written.
    pub fn lent(&mut self, conn: ConnId, bytes: &[u8]) {
        let line = self.lines.entry(conn).or_default();
        line.is_lent = true;
        let mut at = line.rest;
        while let Some((len, token)) = bytes.get(at..).and_then(frame) {
            line.out.push((at, at + len, token));
            at += len;
        }
    }

    /// A kernel took the first so many bytes of the chunk that is out.
    pub fn took(&mut self, conn: ConnId, written: usize) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        if line.rest > 0 {
            let of_rest = written.min(line.rest);
            line.rest -= of_rest;
            if line.rest == 0 {
                self.whole.extend(line.begun.take());
            }
        }
        for (begin, end, token) in &line.out {
            if *end <= written {
                self.whole.extend(*token);
            } else if *begin < written {
                (line.rest, line.begun) = (end - written, *token);
            }
        }
    }

    /// The machine has its chunk back.
    pub fn returned(&mut self, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.is_lent = false;
        if line.is_lost {
            return self.lost(conn);
        }
        line.out.clear();
    }

    /// The connection is gone. What becomes of a chunk that is out, the machine learns when it has it back.
    pub fn lost(&mut self, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.is_lost = true;
        if !line.is_lent {
            self.cut.extend(line.calls());
            self.lines.remove(&conn);
        }
    }

    /// Whether anything of this call can have reached a server, or the machine cannot know yet that it has not.
    pub fn may_have_left(&self, token: Token) -> bool {
        self.whole.contains(&token)
            || self.cut.contains(&token)
            || self.lines.values().any(|line| line.calls().any(|call| call == token))
    }
}

impl Line {
    fn calls(&self) -> impl Iterator<Item = Token> + '_ {
        self.out.iter().filter_map(|(_, _, token)| *token).chain(self.begun)
    }
}

/// The length of the frame at the beginning of these bytes, and the call that it makes, if it does.
fn frame(bytes: &[u8]) -> Option<(usize, Option<Token>)> {
    let len = u32::from_le_bytes(bytes.get(..LENGTH_BYTES)?.try_into().ok()?);
    let len = LENGTH_BYTES + usize::try_from(len).ok()?;
    let token = match bytes.get(LENGTH_BYTES..len).map(Frame::decode) {
        Some(Ok(Frame::Request { arguments, .. })) => token_of(arguments),
        _ => None,
    };
    Some((len, token))
}

/// The call that these are the arguments of.
pub fn token_of(arguments: &[u8]) -> Option<Token> {
    Some(Token::from_le_bytes(arguments.get(..size_of::<Token>())?.try_into().ok()?))
}
