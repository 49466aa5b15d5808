//! What becomes of a publication, and what is counted on the way.

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its sequence number.
    pub seq: u64,
    /// How many subscribers it matched.
    pub subscribers: usize,
}

/// Why a publication was refused; nothing of it was sent and no sequence number was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is longer than 255 bytes.
    #[error("topic of {len} bytes is above the limit of {limit}")]
    TopicTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The publication is larger than the frame limit or a quarter of its log.
    #[error("publication of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// The length of its frame in bytes, without the length field.
        len: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The stream's policy is to lose nothing, its log is full of what connected subscribers have still to read, and
    /// here waiting for them would be waiting for ourselves: on the thread that writes to them. While larger publications
    /// wait on other threads, this may come although this one would have found room: it is kept for them.
    #[error("{subscribers} subscribers have not read what would have to make room")]
    WouldBlock {
        /// How many of them are so far behind.
        subscribers: usize,
    },
    /// There is no such stream.
    #[error("there is no such stream")]
    UnknownStream,
    /// The publisher is stopping or stopped.
    #[error("the publisher is stopped")]
    Stopped,
}

/// What a publisher counts, for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Publications accepted.
    pub published: u64,
    /// Publications that matched somebody and were stored.
    pub stored: u64,
    /// Subscribers at this moment.
    pub subscribers: u64,
    /// Prefixes that they hold, together.
    pub prefixes: u64,
    /// Messages given to connections.
    pub sent: u64,
    /// Messages counted in gaps that were sent.
    pub lost: u64,
    /// Publications that the log holds.
    pub log_messages: u64,
    /// Bytes of them.
    pub log_bytes: u64,
    /// Bytes of memory that the log holds, its index included.
    pub log_memory_bytes: u64,
    /// Sequence numbers that the log spans, from its oldest publication to the head: how long an absence it bridges.
    pub log_span: u64,
    /// Publications that had to wait for a slow subscriber, or were refused because they could not.
    pub blocked: u64,
    /// Subscribers put out because a publication waited no longer for them.
    pub put_out: u64,
    /// Newest messages given to connections in snapshots.
    pub snapshot_messages: u64,
    /// Topics whose newest message is kept.
    pub last_topics: u64,
    /// Bytes that these take.
    pub last_bytes: u64,
    /// Newest messages that went because there was no room for them.
    pub last_dropped: u64,
}
