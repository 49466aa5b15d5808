//! Subscribers that read a tenth of what is published: what they got and what they were told they lost is all there was.
//!
//! `PULSEWIRE_SLOW_PUBLICATIONS=10000000 cargo test --release --test slow -- --nocapture` is the long run.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulsewire::{Event, Lost, RpcClient, RpcServer, Subscription};

use support::*;

/// The default; the environment may ask for more. Several times what all buffers on the way hold together.
const PUBLICATIONS: u64 = 300_000;
/// A slow one reads one publication of so many that are for it.
const ONE_OF: u64 = 10;
/// What it waits for when it has read its part.
const NAP: Duration = Duration::from_micros(500);

/// What is published under a number, and under no other: some 200 bytes.
type Data = (u64, [u64; 20]);

fn mixed(n: u64) -> u64 {
    let mixed = (n ^ 0x5eed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

fn data(n: u64) -> Data {
    (n, [u64::MAX / 2 + mixed(n) / 2; 20])
}

/// Every second one, but which of two is not foreseen.
fn is_tick(n: u64) -> bool {
    mixed(n / 2) % 2 == n % 2
}

fn topic(n: u64) -> &'static str {
    match (is_tick(n), mixed(n) % 3) {
        (true, 0) => "tick.rb",
        (true, 1) => "tick.ag",
        (true, _) => "tick.",
        (false, 0) => "trade",
        (false, 1) => "tic",
        (false, _) => "",
    }
}

/// A subscription that must lose, and what it has a right to.
struct Slow {
    _client: RpcClient,
    subscription: Subscription<Data>,
    prefix: &'static str,
    /// Publications, of which one in [`ONE_OF`] is its part.
    one_of: u64,
    received: u64,
    lost: u64,
    gaps: u64,
    /// Everything matching below it was received or reported lost.
    position: u64,
}

impl Slow {
    fn new(server: &RpcServer, prefix: &'static str, one_of: u64) -> Self {
        // It is the log where it falls behind, not its own memory.
        let limits = limits(|limits| limits.inbox_bytes = 64 * 1024);
        let client = RpcClient::builder().limits(limits).connect(server.local_addr()).unwrap();
        let subscription = client.subscribe_and_wait(prefix, LONG).unwrap().expect("subscribed");
        Slow { _client: client, subscription, prefix, one_of, received: 0, lost: 0, gaps: 0, position: 0 }
    }

    fn matching(&self, before: u64) -> u64 {
        (self.position..before).filter(|n| topic(*n).starts_with(self.prefix)).count() as u64
    }

    /// Reads its part until the end is published, and the rest then.
    fn read(&mut self, published: &AtomicU64, end: u64) {
        while self.position < end {
            let published = published.load(Ordering::Relaxed);
            if published < end && (self.received + 1) * self.one_of > published {
                std::thread::park_timeout(NAP);
                continue;
            }
            match self.subscription.recv_timeout(LONG).expect("an event") {
                Event::Message { topic: under, seq, data: found } => {
                    assert_eq!((under.as_str(), found), (topic(seq), data(seq)));
                    assert_eq!(
                        (seq >= self.position, self.matching(seq)),
                        (true, 0),
                        "{seq} after {}",
                        self.position
                    );
                    self.received += 1;
                    self.position = seq + 1;
                }
                Event::Lost { after, lost: Lost::Exact(lost), .. } => {
                    assert_eq!((after > self.position, self.matching(after)), (true, lost), "{after}");
                    self.lost += lost;
                    self.gaps += 1;
                    self.position = after;
                }
                Event::Connected { .. } | Event::Subscribed { position: 0 } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_subscriber_ten_times_too_slow_is_told_of_every_message_that_it_lost() {
    let asked =
        std::env::var("PULSEWIRE_SLOW_PUBLICATIONS").map_or(PUBLICATIONS, |asked| asked.parse().unwrap());
    // The last one is for both.
    let end = (asked..).find(|end| is_tick(end - 1)).expect("every second one is");
    let server = RpcServer::builder().bind("127.0.0.1:0").unwrap();
    let mut slow = [Slow::new(&server, "", ONE_OF), Slow::new(&server, "tick.", 2 * ONE_OF)];
    let published = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for slow in &mut slow {
            scope.spawn(|| slow.read(&published, end));
        }
        for n in 0..end {
            assert_eq!(server.publish(topic(n), &data(n)).unwrap().seq, n);
            published.store(n + 1, Ordering::Relaxed);
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("{end} published in {seconds:.1} s, {:.0} a second", end as f64 / seconds);
    });
    let mut lost = 0;
    for slow in &slow {
        let Slow { prefix, received, lost: missed, gaps, .. } = slow;
        let matching = (0..end).filter(|n| topic(*n).starts_with(prefix)).count() as u64;
        let difference = i128::from(matching) - i128::from(received + missed);
        println!(
            "{prefix:?}: {matching} matching, {received} received + {missed} lost in {gaps} gaps, difference {difference}"
        );
        assert_eq!(difference, 0, "{prefix:?}");
        assert!(*received > 0 && *missed > 0, "{prefix:?} was not there, or not slow");
        let stats = slow.subscription.stats();
        assert_eq!((stats.received, stats.lost, stats.lost_at_most), (*received, *missed, 0), "{prefix:?}");
        lost += missed;
    }
    assert_eq!(server.stats().machine.publisher.lost, lost, "what the server says");
}
