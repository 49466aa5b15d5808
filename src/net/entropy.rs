//! Random bits without a dependency: for session ids, epochs and the seeds of jitter.
//!
//! The standard library asks the system for 128 random bits per thread, to key its hash maps with. Here those keys
//! hash what makes each draw different: a process-wide count, both clocks, and the process. SipHash-1-3 under a key
//! that nobody knows has not been told from random so far, so whoever sees some results cannot predict others, and
//! they do not repeat after a restart, nor after a `fork`, which copies the keys but not the process id.
//!
//! Good enough for names that a stranger must not guess. **Not** for keys: the standard library promises neither the
//! source of its bits nor the hash function, and all draws of one thread hang on 128 bits that are never renewed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::clock::Clock;

/// Sixty-four random bits.
pub(crate) fn random_u64() -> u64 {
    /// Keeps two draws apart that everything else agrees on.
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let draw = DRAWS.fetch_add(1, Ordering::Relaxed);
    RandomState::new().hash_one((draw, Clock::wall_clock_ns(), Instant::now(), std::process::id()))
}

/// A hundred and twenty-eight random bits, as a session id takes them: two draws, each under a key of its own.
pub(crate) fn random_bytes() -> [u8; 16] {
    let bits = u128::from(random_u64()) << 64 | u128::from(random_u64());
    bits.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn draws_never_repeat_across_threads() {
        const THREADS: usize = 8;
        const DRAWS: usize = 2_000;
        let threads: Vec<_> = (0..THREADS)
            .map(|_| thread::spawn(|| (0..DRAWS).map(|_| random_bytes()).collect::<Vec<_>>()))
            .collect();
        let seen: HashSet<[u8; 16]> =
            threads.into_iter().flat_map(|thread| thread.join().expect("drawing does not panic")).collect();
        assert_eq!(seen.len(), THREADS * DRAWS);
    }

    #[test]
    fn every_bit_is_set_half_of_the_time_and_flips_half_of_the_time() {
        const DRAWS: u32 = 4_000;
        let (mut set, mut flipped) = ([0_u32; 128], [0_u32; 128]);
        let mut last = 0_u128;
        for _ in 0..DRAWS {
            let bits = u128::from_le_bytes(random_bytes());
            for n in 0..128 {
                set[n] += u32::from(bits >> n & 1 == 1);
                flipped[n] += u32::from((bits ^ last) >> n & 1 == 1);
            }
            last = bits;
        }
        // Eight standard deviations: a false alarm once in 10^12 runs.
        let band = DRAWS / 2 - 253..=DRAWS / 2 + 253;
        assert!(set.iter().chain(&flipped).all(|count| band.contains(count)), "{set:?} {flipped:?}");
    }
}
