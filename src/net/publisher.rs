//! The bare publisher: publishes without a hidden thread.

use core::net::SocketAddr;

use super::bare::{under_another_loop, Socket};
use super::replier::{close, listen};
use super::{Error, ToAddress};
use crate::pattern::{
    Limits, PublishError, Published, PublisherStats, Roles, Server, ServerEvent, ServerStats, StreamError,
    StreamId, StreamOptions,
};
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

    /// Publishes on the main stream, see [`Publisher::publish_on`].
    ///
    /// # Errors
    /// As for [`Publisher::publish_on`].
    pub fn publish(&mut self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        self.publish_on(StreamId::MAIN, topic, data)
    }

    /// Publishes on a stream. A slow subscriber falls behind in the log; only if the stream's policy is to block does
    /// this wait, turning the loop, at most `Limits::block_timeout`, and then puts out whom it has waited for.
    ///
    /// A few publications are written at once. When they come faster than single writes are worth, they are gathered and
    /// written together, what is left of them at the next [`poll`](Self::poll).
    ///
    /// # Errors
    /// The topic or the data is too long, or there is no such stream; no sequence number was used.
    /// [`PublishError::WouldBlock`] only if the poll failed.
    pub fn publish_on(
        &mut self,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        let port = &self.socket.port;
        let publish = |machine: &mut Server| machine.publish_on(stream, topic, data);
        let mut published = port.command_in_flood(topic.len() + data.len(), publish);
        while let Err(PublishError::WouldBlock { .. }) = published {
            let found = self.socket.turn_until(Some(self.limits.block_timeout), |machine| {
                match machine.publish_on(stream, topic, data) {
                    Err(PublishError::WouldBlock { .. }) => None,
                    published => Some(published),
                }
            });
            published = match found {
                Ok(Some(published)) => return published,
                Ok(None) => self.socket.port.command(|machine, now| {
                    machine.put_out_slow(now, stream, topic, data)?;
                    machine.publish_on(stream, topic, data)
                }),
                Err(_) => return published,
            };
        }
        published
    }

    /// Adds a stream with a log, a sequence and an index of its own. It stays for the life of the publisher.
    ///
    /// # Errors
    /// The name is too long or taken, there are too many, or the log's size cannot be.
    pub fn add_stream(&mut self, name: &str, options: StreamOptions) -> Result<StreamId, StreamError> {
        self.socket.port.command(|machine, _| machine.add_stream(name, options))
    }

    /// Makes the main stream another one than the default. Only while nothing was published and nobody follows.
    ///
    /// # Errors
    /// The log's size cannot be, or the stream is in use.
    pub fn set_main_stream(&mut self, options: StreamOptions) -> Result<(), StreamError> {
        self.socket.port.command(|machine, _| machine.set_main_stream(options))
    }

    /// What a stream has counted so far.
    pub fn stream_stats(&self, stream: StreamId) -> Option<PublisherStats> {
        self.socket.port.lock().machine.stream_stats(stream)
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
