//! The bare replier: takes calls and answers them, without a hidden thread.

use core::net::SocketAddr;
use std::sync::Arc;
use std::vec::Vec;

use super::bare::{under_another_loop, Socket};
use super::{random_u64, Error, ToAddress};
use crate::pattern::{Limits, Received, Roles, Server, ServerEvent, ServerStats, Status, Ticket};
use crate::time::Duration;

/// One call that was taken up: from here on it has run, and [`Replier::reply`] answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names the call.
    pub ticket: Ticket,
    /// The function that is asked for.
    pub function: Arc<str>,
    /// Its arguments.
    pub arguments: Received,
}

/// Answers calls, and has no thread: whoever receives them drives it.
///
/// ```no_run
/// use pulsewire::net::Replier;
/// use pulsewire::{Limits, Status};
///
/// let mut replier = Replier::bind("127.0.0.1:2014", Limits::default(), false)?;
/// while let Some(call) = replier.recv(None)? {
///     replier.reply(call.ticket, Status::Ok, &call.arguments);
/// }
/// # Ok::<(), pulsewire::net::Error>(())
/// ```
pub struct Replier {
    socket: Socket<Server>,
    limits: Limits,
    local: SocketAddr,
}

under_another_loop!(Replier);

impl Replier {
    /// Listens. `plaintext` has to be true for addresses beyond loopback: everybody who reaches them may call.
    ///
    /// # Errors
    /// A bad address or limits, a port that is taken, no poll handle.
    pub fn bind(address: impl ToAddress, limits: Limits, plaintext: bool) -> Result<Self, Error> {
        let (socket, local) = listen(address, Roles::Replier, &limits, plaintext)?;
        Ok(Replier { socket, limits, local })
    }

    /// The next call that is to be run, waiting for it at most so long (`None`: for ever). Calls that have expired or
    /// were withdrawn meanwhile are not handed out.
    ///
    /// # Errors
    /// The poll failed.
    pub fn recv(&mut self, timeout: Option<Duration>) -> Result<Option<Call>, Error> {
        let port = Arc::clone(&self.socket.port);
        self.socket.turn_until(timeout, |machine| {
            let now = port.now();
            while let Some(event) = machine.poll_event() {
                let ServerEvent::Work(work) = event else { continue };
                if let Ok(arguments) = machine.start(now, work.ticket) {
                    return Some(Call { ticket: work.ticket, function: work.function, arguments });
                }
            }
            None
        })
    }

    /// Answers a call. Returns whether anybody waits for the answer.
    pub fn reply(&mut self, ticket: Ticket, status: Status, payload: &[u8]) -> bool {
        self.socket.port.command(|machine, _| machine.reply(ticket, status, payload))
    }

    /// Where it listens; the port is the real one if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What has been counted so far.
    pub fn stats(&self) -> ServerStats {
        self.socket.port.lock().machine.stats()
    }

    /// Ends all connections in good order; at once if nothing is unsent, else within `linger`.
    ///
    /// # Errors
    /// The poll failed.
    pub fn close(self) -> Result<(), Error> {
        close(self.socket, &self.limits)
    }
}

/// A server of this role and the loop that its owner turns.
pub(super) fn listen(
    address: impl ToAddress,
    roles: Roles,
    limits: &Limits,
    plaintext: bool,
) -> Result<(Socket<Server>, SocketAddr), Error> {
    limits.validate()?;
    let address = address.to_address()?;
    let mut listeners = super::listen_all(&[address], plaintext)?;
    let (listener, local) = listeners.remove(0);
    let machine = Server::new(roles, limits.clone(), random_u64(), random_u64());
    let mut socket = Socket::new(machine, limits, Vec::new())?;
    socket.listen(listener)?;
    Ok((socket, local))
}

pub(super) fn close(socket: Socket<Server>, limits: &Limits) -> Result<(), Error> {
    socket.close(limits.linger, |server, now| server.stop(now), Server::is_flushed)
}
