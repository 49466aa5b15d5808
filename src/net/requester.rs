//! The bare requester: calls without a hidden thread.

use core::net::SocketAddr;
use std::vec::Vec;

use super::bare::{under_another_loop, Socket};
use super::{random_bytes, random_u64, Address, Error};
use crate::pattern::{
    self, CallOptions, ConnectionEvent, Done, Limits, NotExecuted, Outcome, Random, Reconnect,
    RequesterStats, SessionId,
};
use crate::time::Duration;

/// Calls functions of one server, and has no thread: whoever calls drives it.
///
/// Heartbeats are heard and connections kept only inside [`Requester::poll`] and the blocking methods. For a client
/// with threads of its own see [`RpcClient`](crate::rpc::RpcClient).
///
/// ```no_run
/// use pulsewire::net::Requester;
/// use pulsewire::{Limits, Outcome, Reconnect};
/// use std::time::Duration;
///
/// let server = "127.0.0.1:2014".parse().unwrap();
/// let mut requester = Requester::connect(&[server], Limits::default(), Reconnect::default())?;
/// match requester.request("echo", b"hello", Duration::from_secs(1))? {
///     Outcome::Value(bytes) => assert_eq!(&bytes[..], b"hello"),
///     other => println!("{other:?}"),
/// }
/// # Ok::<(), pulsewire::net::Error>(())
/// ```
pub struct Requester {
    socket: Socket<pattern::Requester>,
    limits: Limits,
    /// Ended calls that were not the one waited for.
    done: Vec<Done>,
}

under_another_loop!(Requester);

impl Requester {
    /// Dials the first of the addresses, and the next one after each failure. Returns at once; connecting is part of
    /// [`Requester::poll`].
    ///
    /// # Errors
    /// No address, one that cannot be dialled, bad limits, or no poll handle.
    pub fn connect(addresses: &[SocketAddr], limits: Limits, reconnect: Reconnect) -> Result<Self, Error> {
        limits.validate()?;
        let addresses = dialable(addresses)?;
        let random = Random::new(random_u64());
        let session = SessionId(random_bytes());
        let mut machine =
            pattern::Requester::new(limits.clone(), reconnect, addresses.len(), session, random);
        machine.start();
        Ok(Requester { socket: Socket::new(machine, &limits, addresses)?, limits, done: Vec::new() })
    }

    /// Calls and waits for the outcome.
    ///
    /// # Errors
    /// The poll failed. Whatever becomes of the call itself is in the [`Outcome`].
    pub fn request(&mut self, function: &str, arguments: &[u8], timeout: Duration) -> Result<Outcome, Error> {
        let id = match self.start_request(function, arguments, timeout) {
            Ok(id) => id,
            Err(refusal) => return Ok(Outcome::NotExecuted(refusal)),
        };
        loop {
            if let Some(index) = self.done.iter().position(|done| done.id == id) {
                return Ok(self.done.swap_remove(index).outcome);
            }
            if let Some(done) = self.socket.turn_until(None, |machine| machine.poll_done())? {
                self.done.push(done);
            }
        }
    }

    /// Calls without waiting: the end comes out of [`Requester::next_done`] under the id that is returned.
    ///
    /// # Errors
    /// It was refused at once and nothing was sent.
    pub fn start_request(
        &mut self,
        function: &str,
        arguments: &[u8],
        timeout: Duration,
    ) -> Result<u64, NotExecuted> {
        self.socket.port.command(|machine, now| {
            let options = CallOptions { deadline: now + timeout, idempotent: false, fail_fast: false };
            machine.call(now, function, arguments, options)
        })
    }

    /// The next call that has ended, waiting for it at most so long (`None`: for ever).
    ///
    /// # Errors
    /// The poll failed.
    pub fn next_done(&mut self, timeout: Option<Duration>) -> Result<Option<Done>, Error> {
        if let Some(done) = self.done.pop() {
            return Ok(Some(done));
        }
        self.socket.turn_until(timeout, |machine| machine.poll_done())
    }

    /// The next thing that has happened to the connection.
    pub fn next_connection_event(&mut self) -> Option<ConnectionEvent> {
        self.socket.port.lock().machine.poll_connection_event()
    }

    /// The handshake is done and the connection lives, as far as the last poll knows.
    pub fn is_connected(&self) -> bool {
        self.socket.port.lock().machine.is_connected()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> RequesterStats {
        self.socket.port.lock().machine.stats()
    }

    /// Says Bye and ends every call; at once if nothing is unsent, else within `linger`.
    ///
    /// # Errors
    /// The poll failed.
    pub fn close(self) -> Result<(), Error> {
        let linger = self.limits.linger;
        self.socket.close(linger, |machine, now| machine.stop(now), |machine| machine.is_flushed())
    }
}

/// The addresses as a driver takes them, if they can be dialled.
pub(super) fn dialable(addresses: &[SocketAddr]) -> Result<Vec<Address>, Error> {
    let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
    if addresses.is_empty() {
        return Err(Error::NoAddress);
    }
    for address in &addresses {
        address.to_dial()?;
    }
    Ok(addresses)
}
