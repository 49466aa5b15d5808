//! The server: functions by name, run in lanes, and publications.

mod builder;
mod handler;
mod stream;

use core::net::SocketAddr;
use std::string::{String, ToString};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use std::vec::Vec;

use serde::Serialize;

use super::codec;
use super::method::PublishTopic;
use crate::net::{self, Address, DriverThread, Port};
use crate::pattern::{
    Gate, PublishError, Published, PublisherStats, Refusal, Server, ServerStats, StreamError, StreamId,
    StreamOptions, Turn,
};
use builder::Config;
pub use builder::{BindError, RpcServerBuilder};
use handler::LaneJob;
pub(super) use handler::ServerHandler;
pub use stream::Stream;

/// Answers calls by name and publishes events by topic.
///
/// A handle: clones are the same server, and it stops when the last one goes. It can be stopped and started again; a
/// new start is a new life (epoch), and clients are told so.
///
/// ```
/// use pulsewire::{RpcClient, RpcServer};
///
/// let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind("127.0.0.1:0")?;
/// let client = RpcClient::connect(server.local_addr())?;
/// let sum: i64 = client.call("add", &(1i64, 2i64))?;
/// assert_eq!(sum, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RpcServer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// What is running, if it is. Taken out by stop.
    running: RwLock<Option<Arc<Running>>>,
    /// The first life, which most servers have only one of: found without a lock, also when it is over.
    first: OnceLock<Arc<Running>>,
    /// Starting and stopping exclude each other.
    changing: Mutex<()>,
    local: RwLock<Vec<SocketAddr>>,
}

struct Running {
    port: Arc<Port<ServerHandler>>,
    /// The main stream's.
    gate: Arc<Gate>,
    driver: DriverThread,
    epoch: u64,
}

impl RpcServer {
    /// A server without functions and addresses yet.
    pub fn builder() -> RpcServerBuilder {
        RpcServerBuilder::new()
    }

    /// Publishes a value under a topic, on the main stream. A slow subscriber falls behind in the log, and is told what
    /// it missed; only if the stream's policy is [`SlowPolicy::Block`](crate::SlowPolicy::Block) does this wait, at most
    /// `Limits::block_timeout` from its turn on, and then puts out whom it has waited for. Publications of several threads
    /// that wait have their turn in the order in which they began to.
    ///
    /// # Errors
    /// The value cannot be encoded, topic or value are too long, the server is stopped, or it would have to wait inside
    /// an inline function; no sequence number was used.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl PublishTopic<T>,
        value: &T,
    ) -> Result<Published, PublishFailed> {
        publish_value(value, |data| self.publish_bytes(topic.topic(), data))
    }

    /// Publishes bytes as they are, for a codec of your own, on the main stream.
    ///
    /// # Errors
    /// As for [`RpcServer::publish`].
    #[inline]
    pub fn publish_bytes(&self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        self.publish_on(StreamId::MAIN, topic, data)
    }

    fn publish_on(&self, stream: StreamId, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        match self.inner.first.get() {
            Some(first) => self.publish_in(first, stream, topic, data),
            None => Err(PublishError::Stopped),
        }
    }

    /// Publishes in this life of the server, or in the one that runs now.
    fn publish_in(
        &self,
        running: &Running,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        if stream == StreamId::MAIN {
            if let Some(published) = running.gate.pass_over(topic, data) {
                return Ok(published);
            }
        }
        let bytes = topic.len() + data.len();
        let publish = |server: &mut Server| server.publish_on(stream, topic, data);
        match running.port.command_in_flood(bytes, publish) {
            Ok(published) => Ok(published),
            Err(error) => self.publish_after(running, error, stream, topic, data),
        }
    }

    /// It was refused in this life of the server: what can be done about it.
    #[cold]
    fn publish_after(
        &self,
        running: &Running,
        error: PublishError,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        let may_wait = matches!(error, PublishError::WouldBlock { .. }) && !running.driver.is_current();
        let refused = match may_wait {
            true => match self.publish_when_there_is_room(running, stream, topic, data) {
                Err(refused) => refused,
                published => return published,
            },
            false => error,
        };
        if refused != PublishError::Stopped {
            return Err(refused);
        }
        // There may have been a later start.
        let later = self.running().filter(|later| !core::ptr::eq(&raw const **later, running));
        let later = later.ok_or(refused)?;
        self.publish_in(&later, stream, topic, data)
    }

    /// Waits for those who have not read what would have to make room, and puts out who does not in time.
    #[cold]
    fn publish_when_there_is_room(
        &self,
        running: &Running,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        let port = &running.port;
        let turn = port.command(|server, _| server.wait_for_room(stream, topic, data))?;
        let _waits = Waits { port, stream, turn };
        loop {
            port.flush();
            let mut deadline = port.now() + self.inner.config.limits.block_timeout;
            loop {
                // Room for one would be used up at once, and be waited for again; and it may be written to a great many.
                let patience = deadline.min(port.now() + ROOM_PATIENCE.max(16 * port.write_effort()));
                port.wait_until(patience, |server| {
                    server.has_room_for_more(stream, turn, topic, data).then_some(())
                });
                let mut is_first = true;
                let bytes = topic.len() + data.len();
                let published = port.command_in_flood(bytes, |server| {
                    match server.publish_waiting(stream, turn, topic, data) {
                        Err(PublishError::WouldBlock { .. }) => {
                            is_first = server.is_first_to_wait(stream, turn);
                            None
                        }
                        published => Some(published),
                    }
                });
                if let Some(published) = published {
                    return published;
                }
                if !is_first {
                    // It is others who take the room, not somebody slow who withholds it.
                    deadline = port.now() + self.inner.config.limits.block_timeout;
                } else if port.now() >= deadline {
                    break;
                }
            }
            // Those who have come back meanwhile get as much time again.
            let slow = port.command(|server, now| server.put_out_slow(now, stream, topic, data))?;
            log::warn!(
                "subscriber-too-slow: {slow} put out after {:?}",
                self.inner.config.limits.block_timeout
            );
        }
    }

    /// The stream of this name; one that is not there yet is added with the default options, for this and all later
    /// lives of the server. A subscriber that asked for it before was refused, and dials again by itself.
    ///
    /// # Errors
    /// The name is too long, there are too many streams, or the server is stopped.
    pub fn stream(&self, name: &str) -> Result<Stream, StreamError> {
        match self.find_stream(name)? {
            Some(stream) => Ok(stream),
            None => match self.add_stream(name, StreamOptions::default()) {
                // Somebody else was quicker.
                Err(StreamError::Exists) => Ok(self.find_stream(name)?.ok_or(StreamError::Stopped)?),
                added => added,
            },
        }
    }

    /// Adds a stream that is not like the default one, for this and all later lives of the server; better said in the
    /// builder, before anybody asks for it.
    ///
    /// # Errors
    /// There is one of this name, the name is too long, there are too many, the log's size cannot be, or the server is
    /// stopped.
    pub fn add_stream(&self, name: &str, options: StreamOptions) -> Result<Stream, StreamError> {
        let running = self.running().ok_or(StreamError::Stopped)?;
        // Held meanwhile, so that the order is the same in the next life.
        let mut streams = self.inner.config.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, gate) = running.port.command(|server, _| {
            let id = server.add_stream(name, options)?;
            Ok::<_, StreamError>((id, server.gate(id)))
        })?;
        streams.push((name.into(), options));
        Ok(Stream::new(self.clone(), id, gate, name))
    }

    fn find_stream(&self, name: &str) -> Result<Option<Stream>, StreamError> {
        let running = self.running().ok_or(StreamError::Stopped)?;
        let machine = &running.port.lock().machine;
        let id = machine.stream(name);
        Ok(id.map(|id| Stream::new(self.clone(), id, machine.gate(id), name)))
    }

    fn stream_stats(&self, stream: StreamId) -> Option<PublisherStats> {
        self.running()?.port.lock().machine.stream_stats(stream)
    }

    /// The first address it listens on; the port is the real one if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs()[0]
    }

    /// All addresses it listens on, in the order in which they were given; after a stop, those of its last life.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.inner.local.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This life of the server: a random number at each start. `None` while it is stopped.
    pub fn epoch(&self) -> Option<u64> {
        self.running().map(|running| running.epoch)
    }

    /// It has been started and not stopped.
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// What has been counted in this life; all zero while it is stopped.
    pub fn stats(&self) -> RpcServerStats {
        self.running().map_or_else(RpcServerStats::default, |running| {
            let machine = running.port.lock().machine.stats();
            let handler = &running.port.handler;
            RpcServerStats {
                machine,
                lanes: handler.lanes.iter().map(|lane| (lane.name().to_string(), lane.len())).collect(),
                slow_inline: handler.slow_inline.load(Ordering::Relaxed),
            }
        })
    }

    /// Starts it again, on the same addresses and ports, as a new life.
    ///
    /// # Errors
    /// It is running, or what [`RpcServerBuilder::bind`] says.
    pub fn start(&self) -> Result<(), BindError> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_running() {
            return Err(BindError::Net(net::Error::AlreadyRunning));
        }
        let last = self.local_addrs();
        let again: Vec<Address> = if last.is_empty() {
            self.inner.config.addresses.clone()
        } else {
            // A port that the system chose stays the same; the address stays what was asked for.
            last.iter()
                .zip(&self.inner.config.addresses)
                .map(|(last, address)| address.with_port(last.port()))
                .collect()
        };
        let (running, local) = self.inner.config.start(&again)?;
        *self.inner.local.write().unwrap_or_else(PoisonError::into_inner) = local;
        self.inner.run(running);
        Ok(())
    }

    /// Ends all connections in good order: calls that have not started are answered so, what is unsent is sent, then
    /// Bye. Returns at once if nothing is unsent and no function runs, else after at most `linger`. Stopping twice is
    /// harmless; it works from inside a function too.
    pub fn stop(&self) {
        self.inner.stop();
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.inner.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl core::fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RpcServer").field("local", &self.local_addrs()).field("epoch", &self.epoch()).finish()
    }
}

impl Inner {
    fn run(&self, running: Running) {
        let running = Arc::new(running);
        // Only the first one stays.
        let _ = self.first.set(Arc::clone(&running));
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    fn stop(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        let linger = self.config.limits.linger;
        let port = &running.port;
        let deadline = port.now() + linger;
        running.driver.stop_listening(linger);
        // What has not started never does; what has is given its time, and its answer goes out before the Bye.
        let unstarted: Vec<LaneJob> = port.handler.lanes.iter().flat_map(|lane| lane.close(true)).collect();
        unstarted.into_iter().for_each(|job| job.refuse(Refusal::ShuttingDown));
        for lane in &port.handler.lanes {
            lane.join_within(deadline.saturating_since(port.now()));
        }
        port.command(|server, now| server.stop(now));
        if !running.driver.is_current() {
            port.wait_until(deadline, |server| server.is_flushed().then_some(()));
        }
        running.driver.finish();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Encodes a value and publishes it. The value's own code runs before any lock is taken.
fn publish_value<T: Serialize + ?Sized>(
    value: &T,
    publish: impl FnOnce(&[u8]) -> Result<Published, PublishError>,
) -> Result<Published, PublishFailed> {
    let published = codec::encoded(value, 0, |buffer| publish(&buffer[codec::FRONT_BYTES..]));
    Ok(published.map_err(PublishFailed::Unencodable)??)
}

/// A publication's place among those that wait: given up in good order also if something panics.
struct Waits<'a> {
    port: &'a Arc<Port<ServerHandler>>,
    stream: StreamId,
    turn: Turn,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // Those who still wait look again. What was published is gathered with what comes.
        self.port.command_in_turn(|server| server.end_wait(self.stream, self.turn));
    }
}

/// A publisher that has to wait does so for room for many, but no longer than this, or than some writes to all subscribers
/// take, if there is room for one.
const ROOM_PATIENCE: Duration = Duration::from_millis(1);

/// Why a value was not published; no sequence number was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishFailed {
    /// It cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(String),
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

/// What a server counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RpcServerStats {
    /// Connections, calls and publications.
    pub machine: ServerStats,
    /// Each lane and the calls that wait in it.
    pub lanes: Vec<(String, usize)>,
    /// Inline functions that took more than a millisecond.
    pub slow_inline: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_that_has_waited_in_a_life_that_is_over_is_made_in_the_one_that_runs() {
        let server = RpcServer::builder().bind("127.0.0.1:0").expect("a port");
        server.stream("one more").expect("room");
        let first = server.running().expect("it runs");
        let stream = first.port.lock().machine.stream("one more").expect("it was added");
        server.stop();
        let late = |stream| {
            let full = PublishError::WouldBlock { subscribers: 1 };
            server.publish_after(&first, full, stream, "a", b"").map(|published| published.seq)
        };
        assert_eq!(late(StreamId::MAIN), Err(PublishError::Stopped));
        server.start().expect("its port is free again");
        for stream in [StreamId::MAIN, stream] {
            assert_eq!(late(stream), Ok(0));
        }
    }

    #[test]
    fn publications_that_nobody_wants_have_a_life_too() {
        let server = RpcServer::builder().bind("127.0.0.1:0").expect("a port");
        let stream = server.stream("one more").expect("room");
        for life in 1..=3 {
            for seq in 0..100 {
                let unwanted = Ok(Published { seq, subscribers: 0 });
                assert_eq!(server.publish_bytes("a", b""), unwanted, "life {life}");
                assert_eq!(stream.publish_bytes("a", b""), unwanted, "life {life}");
            }
            assert_eq!((server.stats().machine.publisher.published, stream.stats().published), (100, 100));
            server.stop();
            assert_eq!(server.publish_bytes("a", b""), Err(PublishError::Stopped));
            assert_eq!(stream.publish_bytes("a", b""), Err(PublishError::Stopped));
            server.start().expect("its port is free again");
        }
    }
}
