//! How long to wait before dialling again: the policies, a place in one of them, and the random numbers for both.
//!
//! Nothing here dials, and nothing here knows the time. Whoever dials asks [`Backoff::next_wait`] after each failure
//! and each loss, and tells it of each success; the very first attempt waits for nothing and asks for nothing.

use crate::time::Duration;

/// How long to wait before dialling again.
///
/// [`Reconnect::default`] suits nearly everybody: doubling from 100 ms to 5 s, with jitter. [`Reconnect::zmq`] is
/// there for those who replace ZeroMQ and want its timing unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect(Policy);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// ZeroMQ with `RECONNECT_IVL_MAX` off. Invariant: `ivl_ms > 0`.
    ZmqJitter { ivl_ms: i32 },
    /// ZeroMQ with `RECONNECT_IVL_MAX` on. Invariant: both are positive; `max_ms` may well be the smaller one.
    ZmqDoubling { ivl_ms: i32, max_ms: i32 },
    /// Ours. Invariant: `SHORTEST_FIRST_US <= first_us <= max_us`.
    Backoff { first_us: u64, max_us: u64 },
    /// A lost connection stays lost.
    Never,
}

impl Reconnect {
    /// ZeroMQ's `RECONNECT_IVL` and `RECONNECT_IVL_MAX`, in milliseconds, to the letter.
    ///
    /// * `max_ms == 0` (ZeroMQ's default, with `ivl_ms == 100`): each wait is `ivl_ms` plus a random part below
    ///   `ivl_ms`, in whole milliseconds, and never grows: 100 to 199 ms.
    /// * `max_ms > 0`: `ivl_ms`, then doubling, never above `max_ms`, and **no** jitter. A `max_ms` below `ivl_ms`
    ///   caps the first wait too; ZeroMQ's manual says it is ignored, its code does this.
    /// * `ivl_ms <= 0`: never, as with [`Reconnect::never`]. A negative `max_ms`, which ZeroMQ refuses, counts as 0.
    ///
    /// Waits saturate at `i32::MAX` milliseconds. The sequence starts anew at every TCP connect, also at one whose
    /// handshake then fails: a server that accepts and closes is dialled at the shortest interval for ever.
    /// Source: `src/stream_connecter_base.cpp` of libzmq 4.3.5 and later. Up to 4.3.4 there was jitter in both cases.
    pub const fn zmq(ivl_ms: i32, max_ms: i32) -> Self {
        if ivl_ms <= 0 {
            Reconnect(Policy::Never)
        } else if max_ms <= 0 {
            Reconnect(Policy::ZmqJitter { ivl_ms })
        } else {
            Reconnect(Policy::ZmqDoubling { ivl_ms, max_ms })
        }
    }

    /// Doubling from `first` up to `max`, with jitter in the upper half of each step.
    ///
    /// Each wait is drawn evenly between one half and the whole of its step, in microseconds: with the defaults 50 to
    /// 100 ms, 100 to 200 ms, and so on up to 2.5 to 5 s. The jitter keeps the clients of a restarted server from
    /// coming back in step, the lower half keeps them from hammering it. The sequence starts anew only when the server
    /// has served us, so that one that accepts and closes is left in peace more and more.
    ///
    /// `first`: default 100 ms; too little dials a server that is still starting up in vain, too much makes every
    /// short interruption a long one. It is raised to 1 ms, because a wait of zero would spin. `max`: default 5 s; too
    /// little crowds a server that is coming back, too much leaves a client outside long after it has come back. It
    /// is raised to `first`.
    pub fn backoff(first: Duration, max: Duration) -> Self {
        let first_us = saturating_micros(first).max(SHORTEST_FIRST_US);
        Reconnect(Policy::Backoff { first_us, max_us: saturating_micros(max).max(first_us) })
    }

    /// A connection that is lost, or that cannot be made, is given up at once.
    pub const fn never() -> Self {
        Reconnect(Policy::Never)
    }
}

impl Default for Reconnect {
    /// [`Reconnect::backoff`] from 100 ms to 5 s.
    fn default() -> Self {
        Reconnect::backoff(Duration::from_millis(100), Duration::from_secs(5))
    }
}

/// One requester's or one subscription's place in its [`Reconnect`] policy.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Reconnect,
    /// Waits given out since the sequence began. Invariant: zero exactly while `step` is `None`.
    attempt: u32,
    /// The step that the last wait was made from, in the policy's own unit: milliseconds for ZeroMQ's, which never
    /// holds more than an `i32` here, and microseconds for ours.
    step: Option<u64>,
}

impl Backoff {
    /// A place at the beginning of `policy`.
    pub const fn new(policy: Reconnect) -> Self {
        Backoff { policy, attempt: 0, step: None }
    }

    /// How long to wait before the next attempt, drawn anew at each call; `None` is never.
    ///
    /// To be asked once per failed attempt and once per lost connection, because each call goes one step further. Not
    /// before the first attempt of all, which is immediate.
    pub fn next_wait(&mut self, random: &mut Random) -> Option<Duration> {
        let (step, wait) = match self.policy.0 {
            Policy::ZmqJitter { ivl_ms } => {
                let ivl = u64::from(ivl_ms.unsigned_abs());
                (ivl, Duration::from_millis((ivl + random.below(ivl)).min(LONGEST_ZMQ_MS)))
            }
            Policy::ZmqDoubling { ivl_ms, max_ms } => {
                let max = u64::from(max_ms.unsigned_abs());
                let step = self.step.map_or(u64::from(ivl_ms.unsigned_abs()), |step| step * 2).min(max);
                (step, Duration::from_millis(step))
            }
            Policy::Backoff { first_us, max_us } => {
                let step = self.step.map_or(first_us, |step| step.saturating_mul(2)).min(max_us);
                let half = step / 2;
                (step, Duration::from_micros(step - half + random.below(half + 1)))
            }
            Policy::Never => return None,
        };
        self.step = Some(step);
        self.attempt = self.attempt.saturating_add(1);
        Some(wait)
    }

    /// TCP says that we are connected. ZeroMQ's sequence starts anew, ours waits for more.
    pub fn handle_connected(&mut self) {
        match self.policy.0 {
            Policy::ZmqJitter { .. } | Policy::ZmqDoubling { .. } => self.restart(),
            Policy::Backoff { .. } | Policy::Never => {}
        }
    }

    /// The handshake is done and the first frame after it has come. Every sequence starts anew.
    pub fn handle_served(&mut self) {
        self.restart();
    }

    /// Waits given out since the sequence last began, for the log and for events; it is not the attempt in Hello,
    /// which never goes back.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    fn restart(&mut self) {
        self.attempt = 0;
        self.step = None;
    }
}

/// Random numbers handed in: below `net` nothing draws its own.
///
/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): eight bytes of state, even
/// and fast, and the same numbers for the same seed on every machine. **Not** cryptographic: who sees one output knows
/// all the others. Fit for jitter and for tests, unfit for keys and session ids. Not `Clone`, since two copies would
/// draw the same numbers.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers are decided by `seed` alone; every seed is as good as any other, 0 included.
    pub const fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Sixty-four even bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, and not including, `n`; 0 if `n` is 0.
    ///
    /// The high half of a 128-bit product: no division, and no number is likelier than another by more than one part
    /// in 2^64 / `n`, which is nothing for any wait.
    pub fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(product >> 64).expect("a product of two u64, shifted by 64, fits")
    }
}

fn saturating_micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

/// The least that a first step may be: dialling more often than this is a busy loop.
const SHORTEST_FIRST_US: u64 = 1_000;
/// Where ZeroMQ's arithmetic on `int` milliseconds saturates, about 24.8 days.
const LONGEST_ZMQ_MS: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// libzmq's `get_new_reconnect_ivl` since 4.3.5, line by line, with the draw handed in.
    struct LibZmq {
        ivl: i32,
        ivl_max: i32,
        current: i32,
    }

    impl LibZmq {
        fn new(ivl: i32, ivl_max: i32) -> Self {
            LibZmq { ivl, ivl_max, current: -1 }
        }

        fn next(&mut self, random: &mut Random) -> i32 {
            if self.ivl_max > 0 {
                let candidate = if self.current == -1 {
                    self.ivl
                } else if self.current > i32::MAX / 2 {
                    i32::MAX
                } else {
                    self.current * 2
                };
                self.current = candidate.min(self.ivl_max);
                self.current
            } else {
                if self.current == -1 {
                    self.current = self.ivl;
                }
                let draw = random.below(u64::try_from(self.ivl).unwrap());
                self.current.saturating_add(i32::try_from(draw).unwrap())
            }
        }
    }

    fn waits(policy: Reconnect, seed: u64, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(policy);
        let mut random = Random::new(seed);
        (0..count).map(|_| backoff.next_wait(&mut random).expect("the policy retries")).collect()
    }

    fn waits_ms(policy: Reconnect, count: usize) -> Vec<u128> {
        waits(policy, 7, count).iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn zmq_agrees_with_the_reference_for_ever() {
        const EDGE: [i32; 12] = [
            1,
            2,
            50,
            99,
            100,
            1_000,
            60_000,
            1 << 30,
            i32::MAX / 2,
            i32::MAX / 2 + 1,
            i32::MAX - 1,
            i32::MAX,
        ];
        for ivl in EDGE {
            for max in EDGE.into_iter().chain([0]) {
                let mut reference = LibZmq::new(ivl, max);
                let mut random = Random::new(42);
                for (n, wait) in waits(Reconnect::zmq(ivl, max), 42, 70).into_iter().enumerate() {
                    let expected = u64::try_from(reference.next(&mut random)).unwrap();
                    assert_eq!(wait, Duration::from_millis(expected), "wait {n} of ({ivl}, {max})");
                }
            }
        }
    }

    #[test]
    fn ours_agrees_with_the_reference_for_ever() {
        for (first, max) in [(1_000, 1_000), (1_001, 9_999), (100_000, 5_000_000), (1_000, u64::MAX)] {
            let policy = Reconnect::backoff(Duration::from_micros(first), Duration::from_micros(max));
            let mut random = Random::new(42);
            for (n, wait) in waits(policy, 42, 70).into_iter().enumerate() {
                let step = (u128::from(first) << n).min(u128::from(max));
                let half = u64::try_from(step / 2).unwrap();
                let expected = u64::try_from(step).unwrap() - half + random.below(half + 1);
                assert_eq!(wait, Duration::from_micros(expected), "wait {n} of ({first}, {max})");
                assert!(u128::from(expected) * 2 >= step && u128::from(expected) <= step);
            }
        }
    }

    #[test]
    fn zmq_with_a_maximum_doubles_without_jitter() {
        assert_eq!(waits_ms(Reconnect::zmq(100, 1_000), 6), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(waits_ms(Reconnect::zmq(100, 100), 3), [100, 100, 100]);
        assert_eq!(
            waits_ms(Reconnect::zmq(100, 50), 3),
            [50, 50, 50],
            "a maximum below the interval caps it"
        );
    }

    #[test]
    fn zmq_by_default_waits_between_one_and_two_intervals() {
        let draws = waits(Reconnect::zmq(100, 0), 2014, 500);
        assert!(draws.iter().all(|wait| wait.subsec_nanos() % 1_000_000 == 0), "whole milliseconds");
        let draws: Vec<u128> = draws.iter().map(Duration::as_millis).collect();
        assert!(draws.iter().all(|wait| (100..=199).contains(wait)));
        assert!(*draws.iter().min().unwrap() < 110);
        assert!(*draws.iter().max().unwrap() > 189);
        let sum: u128 = draws.iter().sum();
        assert!((143_500..=155_500).contains(&(sum * 1_000 / 500)), "mean of {sum} / 500");
        let (early, late): (u128, u128) = (draws[..250].iter().sum(), draws[250..].iter().sum());
        assert!(early.abs_diff(late) < 250 * 12, "no growth: {early} and {late}");
    }

    #[test]
    fn zmq_without_an_interval_never_retries() {
        let mut random = Random::new(1);
        for policy in [
            Reconnect::zmq(0, 0),
            Reconnect::zmq(0, 1_000),
            Reconnect::zmq(-1, 0),
            Reconnect::zmq(i32::MIN, 1),
        ] {
            assert_eq!(policy, Reconnect::never());
            let mut backoff = Backoff::new(policy);
            assert_eq!(backoff.next_wait(&mut random), None);
            backoff.handle_connected();
            backoff.handle_served();
            assert_eq!(backoff.next_wait(&mut random), None);
            assert_eq!(backoff.attempt(), 0);
        }
        assert_eq!(Reconnect::zmq(100, -1), Reconnect::zmq(100, 0));
    }

    #[test]
    fn waits_saturate_instead_of_overflowing() {
        let longest = Duration::from_millis(LONGEST_ZMQ_MS);
        let draws = waits(Reconnect::zmq(i32::MAX, 0), 3, 100);
        assert!(draws.iter().all(|wait| *wait == longest), "the least draw is already at the end");
        assert!(waits(Reconnect::zmq(i32::MAX / 2 + 2, 0), 3, 100).iter().all(|wait| *wait <= longest));
        assert_eq!(waits(Reconnect::zmq(i32::MAX / 2 + 1, i32::MAX), 3, 3)[1..], [longest, longest]);

        let endless = waits(Reconnect::backoff(Duration::MAX, Duration::MAX), 3, 100);
        assert!(endless.iter().all(|wait| *wait >= Duration::from_micros(u64::MAX / 2)));
        let mut backoff = Backoff { attempt: u32::MAX, ..Backoff::new(Reconnect::default()) };
        backoff.next_wait(&mut Random::new(1));
        assert_eq!(backoff.attempt(), u32::MAX);
    }

    #[test]
    fn zmq_starts_anew_on_connect() {
        let (mut backoff, mut random) = (Backoff::new(Reconnect::zmq(100, 1_000)), Random::new(1));
        let mut next = |backoff: &mut Backoff| backoff.next_wait(&mut random).unwrap().as_millis();
        assert_eq!((backoff.attempt(), next(&mut backoff), backoff.attempt()), (0, 100, 1));
        assert_eq!((next(&mut backoff), backoff.attempt()), (200, 2));
        backoff.handle_connected();
        assert_eq!((backoff.attempt(), next(&mut backoff)), (0, 100));
        next(&mut backoff);
        backoff.handle_served();
        assert_eq!((backoff.attempt(), next(&mut backoff)), (0, 100));
    }

    #[test]
    fn ours_starts_anew_only_when_served() {
        let (mut backoff, mut random) = (Backoff::new(Reconnect::default()), Random::new(1));
        for _ in 0..10 {
            backoff.next_wait(&mut random).unwrap();
            backoff.handle_connected();
        }
        assert_eq!(backoff.attempt(), 10, "a server that accepts and closes is not hammered");
        assert!(backoff.next_wait(&mut random).unwrap() >= Duration::from_millis(2_500));
        backoff.handle_served();
        assert_eq!(backoff.attempt(), 0);
        assert!(backoff.next_wait(&mut random).unwrap() <= Duration::from_millis(100));
    }

    #[test]
    fn default_stays_between_50_ms_and_5_s() {
        for seed in 0..200 {
            let draws = waits(Reconnect::default(), seed, 12);
            for (n, wait) in draws.iter().enumerate() {
                let step = Duration::from_millis((100_u64 << n).min(5_000));
                assert!(*wait >= step / 2 && *wait <= step, "wait {n} of seed {seed} is {wait:?}");
            }
        }
    }

    #[test]
    fn different_seeds_do_not_dial_in_step() {
        const CLIENTS: u64 = 200;
        for n in [0, 3, 8] {
            let step = Duration::from_millis((100_u64 << n).min(5_000));
            let mut tenths = [0_u32; 10];
            for seed in 0..CLIENTS {
                let wait = waits(Reconnect::default(), seed, n + 1)[n];
                let tenth = (wait - step / 2).as_micros() * 10 / (step / 2).as_micros();
                tenths[usize::try_from(tenth).unwrap().min(9)] += 1;
            }
            // Twenty in each on the average; twice as many would be a crowd.
            assert!(tenths.iter().all(|count| (5..=40).contains(count)), "wait {n}: {tenths:?}");
        }
    }

    #[test]
    fn backoff_mends_what_would_spin_or_shrink() {
        let least = Duration::from_millis(1);
        assert_eq!(Reconnect::backoff(Duration::ZERO, Duration::ZERO), Reconnect::backoff(least, least));
        let second = Duration::from_secs(1);
        assert_eq!(Reconnect::backoff(second, least), Reconnect::backoff(second, second));
    }

    #[test]
    fn random_is_splitmix64() {
        // The first outputs for this seed in the reference implementation by Sebastiano Vigna, `splitmix64.c`.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(random.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn below_reaches_every_number_evenly_and_no_other() {
        let mut random = Random::new(5);
        assert_eq!((random.below(0), random.below(1)), (0, 0));
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[usize::try_from(random.below(10)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (850..=1_150).contains(count)), "{seen:?}");
        assert!((0..100).all(|_| random.below(u64::MAX) < u64::MAX));
    }
}
