//! Every number that bounds something, in one place.

use crate::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Every number that bounds something, with its unit, its default and its reason.
///
/// Make one from [`Limits::default`] or [`Limits::tiny`] and change what has to differ; [`Limits::validate`] says what
/// does not fit together, and everything that takes limits calls it first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest frame accepted and sent, in bytes after the length field. Default 16 MiB: a large contract list or
    /// history passes. Too little refuses them; too much lets one peer claim that much memory.
    pub max_frame_bytes: u32,
    /// Prefixes in one subscriber's set. Default 65 536.
    pub max_prefixes: u32,
    /// Bytes of prefixes in one subscriber's set. Default 4 MiB.
    pub max_prefix_bytes: u64,
    /// Connections that a server holds. Default 16 384.
    pub max_connections: u32,
    /// Connections that have not finished their handshake; the oldest goes first. Default 256.
    pub max_half_open: u32,
    /// Calls of one client without an outcome, on both sides. Default 1 024.
    pub max_in_flight: u32,
    /// Bytes of a stream's publication log. Default 4 MiB. It says how long an absence can be bridged, and how far a
    /// slow subscriber may fall behind; a publication may take a quarter of it.
    pub log_bytes: u64,
    /// Messages in a stream's publication log. Default 65 536.
    pub log_messages: u32,
    /// Streams of publications that a server has, the main one included. Default 16; each may fill a log.
    pub max_streams: u32,
    /// Topics whose newest message a stream keeps, if it keeps any. Default 65 536.
    pub max_last_topics: u32,
    /// Bytes of newest messages, all streams together. Default 16 MiB; beyond it the oldest go.
    pub last_values_bytes: u64,
    /// For which a publisher whose policy is to block waits for a slow subscriber before it puts it out. Default 5 s. It
    /// begins anew with each publication that waits, when its turn comes: of several threads that wait, the last may
    /// wait for several of these.
    pub block_timeout: Duration,
    /// From the connection to the end of the handshake. Default 5 s; an absolute deadline, not one per byte.
    pub handshake_timeout: Duration,
    /// For one connection attempt to one address. Default 3 s (the kernel's own is about two minutes).
    pub connect_timeout: Duration,
    /// A call's time if its caller says nothing else. Default 30 s, as in vn.py.
    pub call_timeout: Duration,
    /// Quiet after which a server sends a heartbeat. Default 10 s, as in vn.py.
    pub heartbeat_interval: Duration,
    /// Silence after which a client gives its server up. Default 30 s, as in vn.py; at least three intervals.
    pub heartbeat_timeout: Duration,
    /// For which a thread that waits polls, yielding its core between tries, before it sleeps; only while its recent
    /// waits ended within this time. Default 50 us: waking a sleeping thread costs about that much. Zero switches it
    /// off. Too much burns a core where answers take long.
    pub polling: Duration,
    /// For what is unsent when a connection is closed on purpose. Default 200 ms.
    pub linger: Duration,
    /// In which a begun frame must gain 64 KiB or end. Default 30 s.
    pub frame_progress_timeout: Duration,
    /// In which a peer must take at least one byte of what waits for it. Default 120 s.
    pub not_reading_timeout: Duration,
    /// For which a sent call waits for its lost connection to come back. Default 3 s, never past its deadline.
    pub resume_wait: Duration,
    /// For which a server keeps a session's record after its connection was lost, so that it can be taken up again.
    /// Default 60 s.
    pub session_keep: Duration,
    /// Records without a connection that a server keeps; the oldest goes first. Default 1 024.
    pub max_detached: u32,
    /// Bytes that a driver reads at once, in one buffer for all its connections. Default 128 KiB. Too little costs system
    /// calls; too much lets one peer's small frames pile up before anybody looks at what has come of them. A subscription,
    /// which nobody's answer waits behind, is read twice as much at once.
    pub read_bytes: u32,
    /// Bytes of frames that are not whole yet, all connections together. Default 64 MiB.
    pub partial_frames_bytes: u64,
    /// Bytes of arguments that wait for their function, all clients together. Default 32 MiB. Large ones (above 32 KiB)
    /// count with the buffer that they came together in.
    pub queued_arguments_bytes: u64,
    /// Bytes of results that are kept for their clients, all together. Default 64 MiB. While they leave room, up to a
    /// sixteenth of it are buffers of large messages that are over, for those that come.
    pub results_bytes: u64,
    /// Bytes of control frames that wait to be written to one connection; beyond it that peer is not read from.
    /// Default 1 MiB. Answers and publications do not queue: they are written from their table and their log.
    pub send_queue_bytes: u64,
    /// Bytes of frames that were begun and wait to be finished, all connections together. Default 64 MiB. A publication of
    /// more than 128 KiB counts whole, and once, however many subscribers are in the middle of it; a newest value that is
    /// sent on request counts for each.
    pub send_queues_bytes: u64,
    /// Bytes of prefixes, all subscribers together. Default 64 MiB.
    pub prefixes_bytes: u64,
    /// Bytes of places in logs, all subscribers together. Default 64 MiB; beyond it a place becomes an exact gap.
    pub positions_bytes: u64,
    /// At the client: bytes of requests that are held until they have their outcome. Default 32 MiB. Those of more than 32
    /// KiB count with the buffer that they were encoded in, and up to a sixteenth may be buffers of such that are over.
    pub held_requests_bytes: u64,
    /// At the client: bytes of events that wait for the application; beyond it reading pauses. Default 4 MiB.
    pub inbox_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_frame_bytes: 16 * 1024 * 1024,
            max_prefixes: 65_536,
            max_prefix_bytes: 4 * MIB,
            max_connections: 16_384,
            max_half_open: 256,
            max_in_flight: 1_024,
            log_bytes: 4 * MIB,
            log_messages: 65_536,
            max_streams: 16,
            max_last_topics: 65_536,
            last_values_bytes: 16 * MIB,
            block_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(10),
            heartbeat_timeout: Duration::from_secs(30),
            polling: Duration::from_micros(50),
            linger: Duration::from_millis(200),
            frame_progress_timeout: Duration::from_secs(30),
            not_reading_timeout: Duration::from_secs(120),
            resume_wait: Duration::from_secs(3),
            session_keep: Duration::from_secs(60),
            max_detached: 1_024,
            read_bytes: 128 * 1024,
            partial_frames_bytes: 64 * MIB,
            queued_arguments_bytes: 32 * MIB,
            results_bytes: 64 * MIB,
            send_queue_bytes: MIB,
            send_queues_bytes: 64 * MIB,
            prefixes_bytes: 64 * MIB,
            positions_bytes: 64 * MIB,
            held_requests_bytes: 32 * MIB,
            inbox_bytes: 4 * MIB,
        }
    }
}

impl Limits {
    /// A preset for small gateways: the same times, a few hundred KiB in each place where the default takes MiB.
    pub fn tiny() -> Self {
        Limits {
            polling: Duration::ZERO,
            max_frame_bytes: 64 * 1024,
            max_prefixes: 1_024,
            max_prefix_bytes: 64 * KIB,
            max_connections: 64,
            max_half_open: 16,
            max_in_flight: 64,
            max_detached: 16,
            log_bytes: 512 * KIB,
            log_messages: 4_096,
            max_streams: 2,
            max_last_topics: 1_024,
            last_values_bytes: 128 * KIB,
            read_bytes: 8 * 1024,
            partial_frames_bytes: 256 * KIB,
            queued_arguments_bytes: 128 * KIB,
            results_bytes: 256 * KIB,
            send_queue_bytes: 64 * KIB,
            send_queues_bytes: 512 * KIB,
            prefixes_bytes: 256 * KIB,
            positions_bytes: 128 * KIB,
            held_requests_bytes: 128 * KIB,
            inbox_bytes: 256 * KIB,
            ..Limits::default()
        }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// The first rule that is broken; the caller's mistake.
    pub fn validate(&self) -> Result<(), LimitsError> {
        let handshake = crate::wire::HANDSHAKE_MAX_FRAME;
        if self.max_frame_bytes < handshake {
            return Err(LimitsError::FrameTooSmall {
                max_frame_bytes: self.max_frame_bytes,
                least: handshake,
            });
        }
        if self.heartbeat_interval < Duration::from_millis(1) {
            return Err(LimitsError::HeartbeatIntervalTooShort { interval: self.heartbeat_interval });
        }
        if u32::try_from(self.heartbeat_interval.as_millis()).is_err() {
            return Err(LimitsError::HeartbeatIntervalTooLong { interval: self.heartbeat_interval });
        }
        if self.heartbeat_timeout < self.heartbeat_interval.saturating_mul(3) {
            return Err(LimitsError::HeartbeatTimeoutTooShort {
                timeout: self.heartbeat_timeout,
                interval: self.heartbeat_interval,
            });
        }
        let positive = [
            ("max_prefixes", u64::from(self.max_prefixes)),
            ("max_prefix_bytes", self.max_prefix_bytes),
            ("max_connections", u64::from(self.max_connections)),
            ("max_half_open", u64::from(self.max_half_open)),
            ("max_in_flight", u64::from(self.max_in_flight)),
            ("log_messages", u64::from(self.log_messages)),
            ("max_streams", u64::from(self.max_streams)),
            ("max_last_topics", u64::from(self.max_last_topics)),
            ("read_bytes", u64::from(self.read_bytes)),
            ("send_queue_bytes", self.send_queue_bytes),
            ("inbox_bytes", self.inbox_bytes),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(LimitsError::Zero { name });
        }
        if self.log_bytes < LEAST_LOG_BYTES || usize::try_from(self.log_bytes).is_err() {
            return Err(LimitsError::LogTooSmall { log_bytes: self.log_bytes, least: LEAST_LOG_BYTES });
        }
        Ok(())
    }
}

/// A log of less than this could not hold a useful publication in its quarter.
pub(crate) const LEAST_LOG_BYTES: u64 = 16 * KIB;

/// Why a set of limits is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// The frame limit is below what the handshake needs.
    #[error("max_frame_bytes is {max_frame_bytes}, the handshake needs {least}")]
    FrameTooSmall {
        /// The limit given.
        max_frame_bytes: u32,
        /// The least possible.
        least: u32,
    },
    /// Heartbeats without pause.
    #[error("heartbeat_interval is {interval:?}, the least is 1 ms")]
    HeartbeatIntervalTooShort {
        /// The interval given.
        interval: Duration,
    },
    /// The interval does not fit into its field of the Welcome frame.
    #[error("heartbeat_interval is {interval:?}, the most is about 49 days")]
    HeartbeatIntervalTooLong {
        /// The interval given.
        interval: Duration,
    },
    /// A live server would be declared dead after one late heartbeat.
    #[error("heartbeat_timeout is {timeout:?}, less than three intervals of {interval:?}")]
    HeartbeatTimeoutTooShort {
        /// The timeout given.
        timeout: Duration,
        /// The interval given.
        interval: Duration,
    },
    /// The publication log is too small, or does not fit into this machine's address space.
    #[error("log_bytes is {log_bytes}, the least is {least}")]
    LogTooSmall {
        /// The size given.
        log_bytes: u64,
        /// The least possible.
        least: u64,
    },
    /// A bound of zero would refuse everything.
    #[error("{name} is 0")]
    Zero {
        /// Which.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid() {
        assert_eq!(Limits::default().validate(), Ok(()));
        assert_eq!(Limits::tiny().validate(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let mut limits = Limits::default();
        limits.heartbeat_timeout = Duration::from_secs(29);
        assert!(matches!(limits.validate(), Err(LimitsError::HeartbeatTimeoutTooShort { .. })));
        let mut limits = Limits::default();
        limits.max_frame_bytes = 100;
        assert_eq!(limits.validate(), Err(LimitsError::FrameTooSmall { max_frame_bytes: 100, least: 4096 }));
        let mut limits = Limits::default();
        limits.max_in_flight = 0;
        assert_eq!(limits.validate(), Err(LimitsError::Zero { name: "max_in_flight" }));
    }
}
