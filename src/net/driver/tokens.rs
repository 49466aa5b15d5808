//! The tokens of open connections.

use std::vec::Vec;

use mio::Token;

use crate::net::dial::DialKey;

/// Whose token is which: small numbers that are given out again, so that thousands of connections lie side by side.
///
/// What the kernel has still to say of a connection that is gone may be taken for another one's: it is looked at once
/// more than need be.
#[derive(Default)]
pub(super) struct Tokens {
    keys: Vec<Option<DialKey>>,
    free: Vec<usize>,
}

impl Tokens {
    /// A token that no other connection has.
    pub(super) fn give(&mut self, key: DialKey) -> Token {
        let at = self.free.pop().unwrap_or(self.keys.len());
        if at == self.keys.len() {
            if at == self.keys.capacity() {
                // By a quarter and not by half, since there may be a great many.
                self.keys.reserve_exact(at / 4 + 4);
            }
            self.keys.push(None);
        }
        self.keys[at] = Some(key);
        Token(at)
    }

    pub(super) fn get(&self, token: Token) -> Option<DialKey> {
        *self.keys.get(token.0)?
    }

    pub(super) fn take_back(&mut self, token: Token) {
        if self.keys.get_mut(token.0).and_then(Option::take).is_some() {
            self.free.push(token.0);
        }
    }
}

/// Numbers from here on are not of open connections: the waker, listeners, dials.
pub(super) const FIRST_OTHER: usize = 1 << (usize::BITS - 1);

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::net::TcpStream;
    use std::sync::Arc;

    use super::super::Driver;
    use super::*;
    use crate::net::port::{Bare, Port};
    use crate::net::{socket, Keepalive};
    use crate::pattern::{ConnId, Limits, Roles, Server};
    use crate::time::Duration;

    #[test]
    fn the_token_of_a_connection_that_had_to_go_for_another_is_given_out_again() {
        let mut limits = Limits::default();
        limits.max_half_open = 1;
        let mut driver = Driver::new(&limits, Keepalive::default()).expect("a poll handle");
        let machine = Server::new(Roles::Both, limits, 1, 1);
        let port = Port::new(Bare::new(), machine, Arc::clone(driver.shared()));
        let index = driver.add(Box::new(Arc::clone(&port)), Vec::new());
        let listener = socket::listen("127.0.0.1:0".parse().expect("an address"), 16).expect("a port");
        let addr = listener.local_addr().expect("an address");
        driver.listen(index, listener).expect("registered");
        let mut peers = Vec::new();
        for accepted in 1..=20 {
            peers.push(TcpStream::connect(addr).expect("a connection"));
            while port.lock().machine.stats().accepted < accepted {
                driver.turn(Some(Duration::from_secs(10))).expect("a turn");
            }
        }
        assert!(driver.tokens.keys.len() <= 2, "{} for one connection", driver.tokens.keys.len());
    }

    #[test]
    fn a_token_is_given_out_again_when_it_was_taken_back() {
        let key = |slot| DialKey { port: 0, conn: ConnId::new(slot, 0) };
        let mut tokens = Tokens::default();
        let given: Vec<Token> = (0..10).map(|slot| tokens.give(key(slot))).collect();
        assert!(given.iter().enumerate().all(|(at, token)| token.0 == at));
        tokens.take_back(given[3]);
        tokens.take_back(given[3]);
        tokens.take_back(Token(FIRST_OTHER));
        assert!(tokens.get(given[3]).is_none() && tokens.get(Token(FIRST_OTHER)).is_none());
        assert_eq!((tokens.give(key(20)), tokens.give(key(21))), (given[3], Token(10)));
        assert!(tokens.get(given[3]) == Some(key(20)) && tokens.get(given[4]) == Some(key(4)));
    }
}
