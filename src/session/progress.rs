//! A begun frame must grow.

use crate::time::{Duration, Instant};

/// Bytes that a begun frame must gain within the timeout, unless it ends.
const LEAST_GAIN: usize = 64 * 1024;

/// Decides when a frame that was begun and does not grow is given up, so that nobody holds memory with a promise.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What the unfinished frame had at its last milestone, and by when it must have 64 KiB more.
    milestone: Option<(usize, Instant)>,
}

impl Progress {
    /// Bytes held of the unfinished frame after a read, 0 if there is none, and whether a frame ended in that read. From
    /// a milestone to the next it may take `timeout`.
    pub(crate) fn handle_partial(&mut self, now: Instant, timeout: Duration, held: usize, ended: bool) {
        self.milestone = match self.milestone {
            _ if held == 0 => None,
            Some((before, deadline)) if !ended && held.saturating_sub(before) < LEAST_GAIN => {
                Some((before, deadline))
            }
            _ => Some((held, now + timeout)),
        };
    }

    /// We do not read: the peer cannot be judged.
    pub(crate) fn pause(&mut self) {
        self.milestone = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.milestone.map(|(_, deadline)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_must_gain_64_kib_or_end() {
        let at = Instant::from_millis;
        let timeout = Duration::from_secs(30);
        let mut progress = Progress::default();
        progress.handle_partial(at(0), timeout, 0, true);
        assert_eq!(progress.deadline(), None);
        progress.handle_partial(at(0), timeout, 10, true);
        assert_eq!(progress.deadline(), Some(at(30_000)));
        progress.handle_partial(at(20_000), timeout, 10 + LEAST_GAIN - 1, false);
        assert_eq!(progress.deadline(), Some(at(30_000)), "a dribble does not buy time");
        progress.handle_partial(at(20_000), timeout, 10 + LEAST_GAIN, false);
        assert_eq!(progress.deadline(), Some(at(50_000)));
        progress.handle_partial(at(21_000), timeout, 80_000, true);
        assert_eq!(progress.deadline(), Some(at(51_000)), "another frame has begun");
        progress.handle_partial(at(22_000), timeout, 0, true);
        assert_eq!(progress.deadline(), None);
    }
}
