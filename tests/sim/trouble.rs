//! Which troubles come, and when: storms, and lulls between them in which everybody comes to rest.

use pulsewire::time::{Duration, Instant};

use super::dice::Dice;
use super::network::{End, Node};
use super::world::World;

/// Which troubles come, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Troubles {
    /// At least so long, until enough has happened.
    pub lasts: Duration,
    /// At least and at most so long between two troubles of a storm: each has time to do its work.
    pub pause_ms: (u64, u64),
    /// How long one of them lasts at the most, where it lasts.
    pub longest_ms: u64,
    /// Some of these come, others not.
    pub kinds: Kinds,
}

/// Which kinds of trouble come, by the bits of their places in [`Kind::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Kinds(u64);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);

    /// About half of them.
    pub fn some(dice: &mut Dice) -> Self {
        Kinds(dice.bits())
    }

    /// Most of those that end connections while their servers live on, and some of the others.
    pub fn abrupt(dice: &mut Dice) -> Self {
        let ends = [
            Kind::Reset,
            Kind::Freeze,
            Kind::FreezeOneWay,
            Kind::Abandon,
            Kind::Unreachable,
            Kind::Backlog,
            Kind::Stillborn,
            Kind::Flap,
        ];
        let ends = Kind::ALL.iter().enumerate().filter(|(_, kind)| ends.contains(kind));
        let ends = ends.fold(0, |bits, (place, _)| bits | 1 << place);
        Kinds(ends & (dice.bits() | dice.bits()) | dice.bits() & dice.bits() & dice.bits())
    }

    fn contain(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }
}

/// At least and at most so long: time for several troubles, ...
const STORM_MS: (u64, u64) = (2_000, 12_000);
/// ... and for everybody to be connected and served again.
const LULL_MS: (u64, u64) = (1_500, 9_000);

/// The state of the weather.
#[derive(Debug)]
pub struct Storm {
    troubles: Troubles,
    trouble_at: Instant,
    turns_at: Instant,
    rages: bool,
    flap: Option<Flap>,
}

/// A client whose cable has a loose contact.
#[derive(Debug, Clone, Copy)]
struct Flap {
    node: Node,
    next: Instant,
    until: Instant,
    period_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reset,
    Freeze,
    FreezeOneWay,
    Abandon,
    Cut,
    HalfClose,
    Kill,
    Stop,
    Unreachable,
    Backlog,
    Stillborn,
    Flap,
    Jump,
    Suspend,
    Stranger,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::Reset,
        Kind::Freeze,
        Kind::FreezeOneWay,
        Kind::Abandon,
        Kind::Cut,
        Kind::HalfClose,
        Kind::Kill,
        Kind::Stop,
        Kind::Unreachable,
        Kind::Backlog,
        Kind::Stillborn,
        Kind::Flap,
        Kind::Jump,
        Kind::Suspend,
        Kind::Stranger,
    ];
}

impl Storm {
    pub fn new(troubles: Troubles, dice: &mut Dice) -> Self {
        let mut storm =
            Storm { troubles, trouble_at: Instant::ZERO, turns_at: Instant::ZERO, rages: false, flap: None };
        storm.turn(Instant::ZERO, dice);
        storm
    }

    pub fn has_lasted(&self, now: Instant) -> bool {
        now >= Instant::ZERO + self.troubles.lasts
    }

    /// No trouble comes any more.
    pub fn end(&mut self) {
        (self.trouble_at, self.turns_at, self.flap) = (Instant::NEVER, Instant::NEVER, None);
    }

    pub fn next(&self) -> Instant {
        let flap = self.flap.map_or(Instant::NEVER, |flap| flap.next);
        self.trouble_at.min(self.turns_at).min(flap)
    }

    /// A lull after a storm, a storm after a lull.
    fn turn(&mut self, now: Instant, dice: &mut Dice) {
        self.rages = !self.rages;
        let (least, most) = if self.rages { STORM_MS } else { LULL_MS };
        self.turns_at = now + dice.millis(least, most);
        self.trouble_at = if self.rages { now + self.pause(dice) } else { Instant::NEVER };
    }

    fn pause(&self, dice: &mut Dice) -> Duration {
        let (least, most) = self.troubles.pause_ms;
        dice.millis(least, most)
    }
}

impl World {
    /// Whatever of that is due.
    pub(super) fn trouble(&mut self) {
        let now = self.now();
        if now >= self.storm.turns_at {
            self.storm.turn(now, &mut self.dice);
        }
        if now >= self.storm.trouble_at {
            self.storm.trouble_at = now + self.storm.pause(&mut self.dice);
            let place = self.dice.index(Kind::ALL.len());
            if self.storm.troubles.kinds.contain(place) {
                self.happen(Kind::ALL[place]);
            }
        }
        if let Some(flap) = self.storm.flap.filter(|flap| now >= flap.next) {
            self.flap(flap);
        }
        self.wake_whom_it_concerns();
    }

    fn happen(&mut self, kind: Kind) {
        let now = self.now();
        self.oracle.report.troubles += 1;
        match kind {
            Kind::Reset | Kind::Freeze | Kind::FreezeOneWay | Kind::Abandon | Kind::Cut | Kind::HalfClose => {
                self.hurt_a_connection(kind)
            }
            Kind::Kill | Kind::Stop => self.end_a_host(kind),
            Kind::Unreachable => {
                let address = self.dice.index(self.hosts.len());
                self.network.unreachable_until[address] = now + self.lasts();
            }
            Kind::Backlog => {
                let address = self.dice.index(self.hosts.len());
                self.network.backlog_until[address] = now + self.lasts();
            }
            Kind::Stillborn => {
                let address = self.dice.index(self.hosts.len());
                self.network.stillborn_until[address] = now + self.lasts();
            }
            Kind::Flap => {
                let node = self.dice.between(self.hosts.len() as u64, self.nodes() as u64 - 1);
                let node = usize::try_from(node).expect("a place in a vector");
                let (until, period_ms) = (now + self.dice.millis(1_000, 5_000), self.dice.between(20, 800));
                self.storm.flap = Some(Flap { node, next: now, until, period_ms });
            }
            Kind::Jump => {
                let node = self.dice.index(self.nodes());
                let by = Duration::from_micros(1 + self.dice.mostly_small(30_000_000));
                self.clocks[node].jump(now, by);
                self.wake(node, now);
            }
            Kind::Suspend => {
                let node = self.dice.index(self.nodes());
                let until = now + self.lasts();
                self.suspend(node, until);
            }
            Kind::Stranger => self.stranger(),
        }
    }

    fn lasts(&mut self) -> Duration {
        self.dice.millis(10, self.storm.troubles.longest_ms)
    }

    fn hurt_a_connection(&mut self, kind: Kind) {
        let living = self.network.living();
        if living.is_empty() {
            return;
        }
        let link = *self.dice.pick(&living);
        let end = *self.dice.pick(&[End::Client, End::Server]);
        let until = self.now() + self.lasts();
        match kind {
            Kind::Reset => self.network.reset(link),
            Kind::FreezeOneWay => self.network.freeze(link, end, until),
            Kind::Abandon => self.network.abandon(link, until),
            Kind::Cut => self.network.cut(link),
            Kind::HalfClose => self.network.half_close(link, end),
            _ => {
                self.network.freeze(link, End::Client, until);
                self.network.freeze(link, End::Server, until);
            }
        }
    }

    /// A server dies or is asked to stop, and comes back: sometimes so soon that hardly anybody notices.
    fn end_a_host(&mut self, kind: Kind) {
        let host = self.dice.index(self.hosts.len());
        if !self.hosts[host].is_alive() {
            return;
        }
        let silently = self.dice.permille(300);
        self.with_host(host, |host, around| match kind {
            Kind::Kill => host.kill(around, silently),
            _ => host.stop(around),
        });
        let away = if self.dice.permille(300) { 20 } else { 4_000 };
        let at = self.now() + self.dice.millis(1, away);
        self.returns.push((at, host));
        self.wake(host, self.now());
    }

    fn flap(&mut self, flap: Flap) {
        let now = self.now();
        let pause = self.dice.millis(1, flap.period_ms);
        self.storm.flap = (now < flap.until).then_some(Flap { next: now + pause, ..flap });
        match self.dice.permille(400) {
            true => self.network.reset_all(flap.node),
            false => self.network.unplug(flap.node, now + self.dice.millis(1, flap.period_ms)),
        }
    }

    /// Somebody who does not speak the protocol connects, says something, and perhaps stays.
    fn stranger(&mut self) {
        let host = self.dice.index(self.hosts.len());
        if !self.hosts[host].is_alive() || self.network.listeners[host].is_none() {
            return;
        }
        let link = self.network.connect(self.now(), Node::MAX, host);
        let junk: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0x16, 3, 1, 2, 0, 1, 0],
            &[0xff; 8],
            b"\x40\x00\x00\x00\x01PLSW\x01",
            b"",
        ];
        let _ = self.network.write(link, End::Client, junk[self.dice.index(junk.len())]);
        if self.dice.permille(500) {
            self.network.close(link, End::Client);
        }
    }
}
