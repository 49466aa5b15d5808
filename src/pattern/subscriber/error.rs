//! Why a set of prefixes stays as it is.

/// Why a prefix was refused; the set is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The prefix is longer than 255 bytes: no topic can match it.
    #[error("prefix of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The name of the stream is longer than 255 bytes: no server has one.
    #[error("stream name of {len} bytes is above the limit of {limit}")]
    StreamNameTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The set is at its limit.
    #[error("the subscription has {limit} prefixes, its limit")]
    TooMany {
        /// The limit in prefixes.
        limit: u32,
    },
    /// The set's bytes are at their limit.
    #[error("the subscription's prefixes are above {limit} bytes")]
    TooManyBytes {
        /// The limit in bytes.
        limit: u64,
    },
    /// A subscription to everything (`""`) is that for life: make another one for single prefixes, and the other way
    /// round.
    #[error("a subscription is to everything or to single prefixes, for life")]
    EverythingIsForLife,
    /// Too many changes wait for the server's answer.
    #[error("{limit} changes wait for an answer")]
    TooManyUnanswered {
        /// The limit in changes: twice that of prefixes.
        limit: u32,
    },
    /// The prefix is not in the set.
    #[error("not subscribed to this prefix")]
    NotSubscribed,
    /// The subscription was stopped.
    #[error("the subscription is stopped")]
    Stopped,
}
