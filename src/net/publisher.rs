//! The bare publisher: publishes without a hidden thread.

use core::net::SocketAddr;

use super::bare::{under_another_loop, Socket};
use super::replier::{close, listen};
use super::{Error, ToAddress};
use crate::pattern::{Limits, PublishError, Published, Roles, Server, ServerEvent, ServerStats};
use crate::time::Duration;

/// Publishes to whoever has subscribed, and has no thread: [`Publisher::publish`] writes what can be written at once,
/// [`Publisher::poll`] lets subscribers in, goes on writing to slow ones, and sends heartbeats.
///
/// A publisher that does not publish has to be polled at least every heartbeat interval, or its subscribers give it
/// up; [`Publisher::next_timeout`] says when.
pub struct Publisher {
    socket: Socket<Server>,
    limits: Limits,
    local: SocketAddr,
}

under_another_loop!(Publisher);

impl Publisher {
    /// Listens. `plaintext` has to be true for addresses beyond loopback: everybody who reaches them may listen in.
    ///
    /// # Errors
    /// A bad address or limits, a port that is taken, no poll handle.
    pub fn bind(address: impl ToAddress, limits: Limits, plaintext: bool) -> Result<Self, Error> {
        let (socket, local) = listen(address, Roles::Publisher, &limits, plaintext)?;
        Ok(Publisher { socket, limits, local })
    }

    /// Publishes. Never blocks: a slow subscriber falls behind in the log.
    ///
    /// # Errors
    /// The topic or the data is too long; no sequence number was used.
    pub fn publish(&mut self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        self.socket.port.command(|machine, _| machine.publish(topic, data))
    }

    /// The next thing that happened: who joined and who left. Driven by [`Publisher::poll`].
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        self.socket.port.lock().machine.poll_event()
    }

    /// Turns the loop until so many subscribers have joined or the time is over; true if they have.
    ///
    /// # Errors
    /// The poll failed.
    pub fn wait_for_subscribers(&mut self, count: u64, timeout: Duration) -> Result<bool, Error> {
        let enough = |stats: ServerStats| (stats.publisher.subscribers >= count).then_some(());
        Ok(self.socket.turn_until(Some(timeout), |machine| enough(machine.stats()))?.is_some())
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
