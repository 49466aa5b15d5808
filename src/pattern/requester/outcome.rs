//! What a caller may ask for, the ways in which a call ends, and how many ended how.

use alloc::string::String;

use super::super::received::Received;
use crate::time::Instant;

/// How one call is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallOptions {
    /// When the caller gives up.
    pub deadline: Instant,
    /// It may run more than once: send it again after a loss, until its deadline.
    pub idempotent: bool,
    /// Refuse at once while there is no connection.
    pub fail_fast: bool,
}

/// The end of a call: exactly one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What [`Requester::call`](super::Requester::call) returned.
    pub id: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// The five ways in which a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran once; this is its result.
    Value(Received),
    /// It ran, or was looked at, and the server says no.
    Failed(Failure),
    /// It certainly did not start: safe to send again.
    NotExecuted(NotExecuted),
    /// It ran once, and the answer is gone.
    ResultNotKept,
    /// It may or may not have run: ask whoever would know.
    Unknown(Unknown),
}

/// The server's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of no.
    pub kind: FailureKind,
    /// The server's words.
    pub text: String,
}

/// What kind of no a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The function ran and returned an error; the text is the function's.
    Function,
    /// There is no function of that name.
    UnknownFunction,
    /// The arguments did not decode to what the function takes.
    BadArguments,
    /// The function panicked.
    Panicked,
    /// The function let its responder go without an answer.
    Dropped,
}

/// Why a call certainly did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotExecuted {
    /// There was no connection until its deadline, or none and it was to fail fast.
    #[error("not connected")]
    NotConnected,
    /// Its deadline came before it was begun, here or at the server.
    #[error("expired before it was started")]
    Expired,
    /// A bound was reached, here or at the server.
    #[error("too many calls in flight, or too many bytes of them")]
    Full,
    /// The client or the server is stopping.
    #[error("shutting down")]
    ShuttingDown,
    /// The server was asked to forget it before it had started it.
    #[error("withdrawn")]
    Withdrawn,
    /// The request is longer than the frame limit.
    #[error("request of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The function's name is empty or longer than 255 bytes.
    #[error("function name of {len} bytes, the limits are 1 and {limit}")]
    BadName {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why it is not known whether a call has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// Its deadline came before its answer.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection was lost and did not come back in time.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The server was restarted.
    #[error("the server was restarted")]
    Restarted,
    /// The server no longer knows this session.
    #[error("the server no longer knows the session")]
    SessionLost,
    /// The client was stopped.
    #[error("the client was stopped")]
    Stopped,
}

/// What a requester counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RequesterStats {
    /// Calls accepted.
    pub calls: u64,
    /// Calls refused at once.
    pub refused: u64,
    /// Calls that ended with an answer of the server's.
    pub answered: u64,
    /// Calls that ended as unknown.
    pub unknown: u64,
    /// Calls that ended as not executed.
    pub not_executed: u64,
    /// Replies that nobody waited for any more: counted and dropped.
    pub late_replies: u64,
    /// Calls sent again, or for the first time after they had been cut off.
    pub sent_again: u64,
    /// Calls without an outcome at this moment.
    pub in_flight: u64,
    /// Bytes of their arguments.
    pub held_bytes: u64,
}
