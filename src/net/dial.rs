//! Dials under way: a name is resolved anew each time, and all its addresses are tried, each with its own deadline.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::vec::Vec;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::numbered::Numbered;
use super::socket::{self, Keepalive};
use crate::pattern::{ConnId, DialError};
use crate::time::{Duration, Instant};

/// Which dial of which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DialKey {
    pub(crate) port: usize,
    pub(crate) conn: ConnId,
}

/// How a dial ended.
pub(crate) enum Dialled {
    /// Connected and tuned.
    Open(TcpStream),
    /// All addresses failed; this is what the last one said.
    Failed(DialError),
}

#[derive(Debug)]
struct Attempt {
    key: DialKey,
    stream: TcpStream,
    /// What to try after this one.
    rest: VecDeque<SocketAddr>,
    deadline: Instant,
}

/// The dials of one driver that have an address and no answer yet.
#[derive(Debug)]
pub(crate) struct Dials {
    attempts: Numbered<Token, Attempt>,
    timeout: Duration,
    keepalive: Keepalive,
}

impl Dials {
    pub(crate) fn new(timeout: Duration, keepalive: Keepalive) -> Self {
        Dials { attempts: Numbered::default(), timeout, keepalive }
    }

    /// Dials the first address that lets itself be dialled. `Some`: it has ended at once.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut token: impl FnMut() -> Token,
        key: DialKey,
        addrs: Vec<SocketAddr>,
    ) -> Option<Dialled> {
        self.go_on(now, registry, &mut token, key, addrs.into(), DialError::Unresolved)
    }

    fn go_on(
        &mut self,
        now: Instant,
        registry: &Registry,
        token: &mut dyn FnMut() -> Token,
        key: DialKey,
        mut rest: VecDeque<SocketAddr>,
        mut error: DialError,
    ) -> Option<Dialled> {
        while let Some(addr) = rest.pop_front() {
            let token = token();
            let dialled = socket::connect(addr).and_then(|mut stream| {
                registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(stream)
            });
            match dialled {
                Ok(stream) => {
                    let deadline = now + self.timeout;
                    self.attempts.insert(token, Attempt { key, stream, rest, deadline });
                    return None;
                }
                Err(why) => error = dial_error(&why),
            }
        }
        Some(Dialled::Failed(error))
    }

    /// The kernel has news of a dial. `Some`: it has ended.
    pub(crate) fn handle_event(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut next_token: impl FnMut() -> Token,
        token: Token,
    ) -> Option<(DialKey, Dialled)> {
        let attempt = self.attempts.get(&token)?;
        let error = match socket::connected(&attempt.stream) {
            Ok(false) => return None,
            Ok(true) if socket::is_self_connection(&attempt.stream) => {
                socket::leave_no_trace(&attempt.stream);
                DialError::SelfConnection
            }
            Ok(true) => match socket::tune(&attempt.stream, &self.keepalive) {
                Ok(()) => {
                    let attempt = self.attempts.remove(&token)?;
                    return Some((attempt.key, Dialled::Open(attempt.stream)));
                }
                Err(why) => dial_error(&why),
            },
            Err(why) => dial_error(&why),
        };
        let attempt = self.attempts.remove(&token)?;
        let key = attempt.key;
        drop(attempt.stream);
        let ended = self.go_on(now, registry, &mut next_token, key, attempt.rest, error)?;
        Some((key, ended))
    }

    /// Gives up the attempts whose time is over. Returns those whose dials have ended with it.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut next_token: impl FnMut() -> Token,
    ) -> Vec<(DialKey, Dialled)> {
        let over: Vec<Token> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.deadline <= now)
            .map(|(token, _)| *token)
            .collect();
        let mut ended = Vec::new();
        for attempt in over.into_iter().filter_map(|token| self.attempts.remove(&token)).collect::<Vec<_>>() {
            drop(attempt.stream);
            let (key, rest) = (attempt.key, attempt.rest);
            if let Some(dialled) = self.go_on(now, registry, &mut next_token, key, rest, DialError::TimedOut)
            {
                ended.push((key, dialled));
            }
        }
        ended
    }

    /// The dial is no longer wanted.
    pub(crate) fn forget(&mut self, key: DialKey) {
        self.attempts.retain(|_, attempt| attempt.key != key);
    }

    /// When the next attempt's time is over.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.attempts.values().map(|attempt| attempt.deadline).min()
    }
}

/// What an operating system's error means for a dial.
pub(crate) fn dial_error(error: &io::Error) -> DialError {
    use io::ErrorKind::*;
    match error.kind() {
        ConnectionRefused | ConnectionReset => DialError::Refused,
        TimedOut => DialError::TimedOut,
        HostUnreachable | NetworkUnreachable | AddrNotAvailable | NetworkDown => DialError::Unreachable,
        _ if socket::out_of_descriptors(error) => DialError::OutOfDescriptors,
        _ => DialError::Failed,
    }
}
