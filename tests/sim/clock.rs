//! The clock that one process sees. It never goes back, and sometimes it jumps ahead of the world's.

use pulsewire::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Clock {
    ahead: Duration,
    jumps: Vec<Jump>,
    /// Since when, in the world's time, the process has had its turns: until then it was suspended.
    pub awake_since: Instant,
}

/// At this moment of the world it was no longer so far ahead, but further.
#[derive(Debug)]
struct Jump {
    at: Instant,
    before: Duration,
    after: Duration,
}

impl Clock {
    /// What it shows at this moment of the world.
    pub fn shows(&self, world: Instant) -> Instant {
        world + self.ahead
    }

    pub fn jump(&mut self, world: Instant, by: Duration) {
        let before = self.ahead;
        self.ahead += by;
        self.jumps.push(Jump { at: world, before, after: self.ahead });
    }

    pub fn has_jumped_since(&self, world: Instant) -> bool {
        self.jumps.last().is_some_and(|jump| jump.at >= world)
    }

    /// The moment of the world at which it shows this, if it does not jump again.
    pub fn world(&self, shown: Instant) -> Instant {
        if shown == Instant::NEVER {
            return shown;
        }
        for Jump { at, before, after } in &self.jumps {
            if shown <= *at + *before {
                return back(shown, *before);
            }
            if shown <= *at + *after {
                return *at;
            }
        }
        back(shown, self.ahead)
    }

    /// How late a process is that acts at this moment of the world on what was due when its clock showed `due`. One that
    /// was suspended could not act earlier.
    pub fn lateness(&self, world: Instant, due: Instant) -> Duration {
        world.saturating_since(self.world(due).max(self.awake_since))
    }
}

fn back(shown: Instant, ahead: Duration) -> Instant {
    Instant::ZERO + shown.saturating_since(Instant::ZERO + ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_jump_skips_is_shown_when_it_jumps() {
        let (at, by) = (Instant::from_millis, Duration::from_millis);
        let mut clock = Clock::default();
        clock.jump(at(100), by(50));
        clock.jump(at(200), by(1_000));
        let moments = [(90, 90), (100, 100), (120, 100), (150, 100), (160, 110), (700, 200), (1_300, 250)];
        for (shown, world) in moments {
            assert_eq!(clock.world(at(shown)), at(world), "{shown}");
        }
        assert_eq!(clock.shows(at(250)), at(1_300));
        assert_eq!(clock.world(Instant::NEVER), Instant::NEVER);
        assert_eq!(clock.lateness(at(210), at(700)), by(10));
        clock.awake_since = at(209);
        assert_eq!(clock.lateness(at(210), at(700)), by(1));
    }
}
