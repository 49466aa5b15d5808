//! One stream of a server, to publish on.

use std::boxed::Box;

use serde::Serialize;

use super::{PublishFailed, RpcServer};
use crate::pattern::{PublishError, Published, PublisherStats, StreamId};
use crate::rpc::method::PublishTopic;

/// One stream of publications of an [`RpcServer`]: a log, a sequence and an index of prefixes of its own.
///
/// A handle: clones are the same stream. It keeps its server alive, and stays good through the server's lives.
#[derive(Clone)]
pub struct Stream {
    server: RpcServer,
    id: StreamId,
    name: Box<str>,
}

impl Stream {
    pub(super) fn new(server: RpcServer, id: StreamId, name: &str) -> Self {
        Stream { server, id, name: Box::from(name) }
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
        self.server.publish_value(self.id, topic, value)
    }

    /// Publishes bytes as they are, for a codec of your own.
    ///
    /// # Errors
    /// As for [`RpcServer::publish`].
    pub fn publish_bytes(&self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        self.server.publish_on(self.id, topic, data)
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
