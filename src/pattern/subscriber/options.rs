//! What a subscription is to be, beside its first prefix.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a subscription is to be, beside its first prefix. The default: the main stream, from now on, no snapshot.
///
/// ```
/// use pulsewire::SubscribeOptions;
/// let (epoch, position) = (7, 1_000); // Saved by an earlier life of this program.
/// let options = SubscribeOptions::default().stream("ticks").from(epoch, position);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// The stream that is followed, for life; empty is the main one. At most 255 bytes. A server that has no such
    /// stream refuses the connection, which is dialled again like any other.
    pub stream: Box<str>,
    /// Asks for the newest message of each topic with every new prefix, and of all topics after a restart of the
    /// server. They come as snapshot events in front of the Subscribed that ends them. A stream that keeps no last
    /// values has none to give.
    pub snapshot: bool,
    /// A place that the application has saved: everything below it is known, so the stream begins there, as far as the
    /// server's log reaches back. What cannot be had is reported as lost.
    pub from: Option<Place>,
    /// Prefixes beside the first one, so that the whole set is in force from the first moment on.
    pub also: Vec<Box<str>>,
}

/// A place in a stream: everything below it has been received or reported lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The life of the server that counted it.
    pub epoch: u64,
    /// The first sequence number that is wanted.
    pub seq: u64,
}

impl SubscribeOptions {
    /// Follows the stream of this name.
    pub fn stream(mut self, name: impl Into<Box<str>>) -> Self {
        self.stream = name.into();
        self
    }

    /// Follows the topics that begin with this prefix as well.
    pub fn also(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.also.push(prefix.into());
        self
    }

    /// Asks for snapshots.
    pub fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }

    /// Begins at a place that was saved: the epoch and the position of an earlier subscription to this stream.
    ///
    /// Only a stream whose log retains everything (`Retain::All`) can replay what was published before; from another
    /// one comes the gap. If the server has been restarted since, the subscription begins with `Restarted`.
    pub fn from(mut self, epoch: u64, seq: u64) -> Self {
        self.from = Some(Place { epoch, seq });
        self
    }
}
