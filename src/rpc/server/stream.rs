//! One stream of a server, to publish on.

use std::boxed::Box;
use std::sync::Arc;

use serde::Serialize;

use super::{publish_value, PublishFailed, RpcServer};
use crate::pattern::{Gate, PublishError, Published, PublisherStats, StreamId};
use crate::rpc::method::PublishTopic;

/// One stream of publications of an [`RpcServer`]: a log, a sequence and an index of prefixes of its own.
///
/// A handle: clones are the same stream. It keeps its server alive, and stays good through the server's lives.
#[derive(Clone)]
pub struct Stream {
    server: RpcServer,
    id: StreamId,
    /// That of the life in which this handle was made; shut for ever in later ones, where the stream itself is asked.
    gate: Option<Arc<Gate>>,
    name: Box<str>,
}

impl Stream {
    pub(super) fn new(server: RpcServer, id: StreamId, gate: Option<Arc<Gate>>, name: &str) -> Self {
        Stream { server, id, gate, name: Box::from(name) }
    }

    /// Its name; empty for the main one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes a value under a topic, see [`RpcServer::publish`].
    ///
    /// # Errors
    /// As for [`RpcServer::publish`].
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl PublishTopic<T>,
        value: &T,
    ) -> Result<Published, PublishFailed> {
        publish_value(value, |data| self.publish_bytes(topic.topic(), data))
    }

    /// Publishes bytes as they are, for a codec of your own.
    ///
    /// # Errors
    /// As for [`RpcServer::publish`].
    pub fn publish_bytes(&self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        match self.gate.as_ref().and_then(|gate| gate.pass_over(topic, data)) {
            Some(published) => Ok(published),
            None => self.server.publish_on(self.id, topic, data),
        }
    }

    /// What has been counted in this life of the server; all zero while it is stopped.
    pub fn stats(&self) -> PublisherStats {
        self.server.stream_stats(self.id).unwrap_or_default()
    }
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).finish_non_exhaustive()
    }
}
