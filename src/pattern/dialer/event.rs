//! What a client is told about its connection.

use crate::session::CloseReason;
use crate::time::Duration;

/// Why a dial failed, as far as a driver can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer within the connect timeout.
    #[error("no answer in time")]
    TimedOut,
    /// No way there.
    #[error("unreachable")]
    Unreachable,
    /// The name has no address, or its resolver no answer.
    #[error("name not resolved")]
    Unresolved,
    /// The kernel connected the socket to itself (a port of the ephemeral range on which nobody listens).
    #[error("connected to itself")]
    SelfConnection,
    /// Out of file descriptors or memory for sockets.
    #[error("out of descriptors")]
    OutOfDescriptors,
    /// Anything else.
    #[error("connecting failed")]
    Failed,
}

/// Why a client waits before it dials again, or gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The dial failed.
    Dial(DialError),
    /// The connection ended.
    Closed(CloseReason),
}

/// What happened to a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The handshake is done.
    Connected {
        /// Index of the address.
        address: usize,
        /// The server's life.
        epoch: u64,
    },
    /// An established connection ended.
    Disconnected {
        /// Why.
        reason: CloseReason,
    },
    /// The next dial comes after this wait.
    RetryIn {
        /// The wait.
        after: Duration,
        /// Counts the waits since the last success, from 1.
        attempt: u32,
        /// What went wrong.
        cause: Cause,
    },
    /// The policy says to dial no more.
    GaveUp {
        /// What went wrong.
        cause: Cause,
    },
}
