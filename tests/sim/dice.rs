//! Chance, all of it from one seed, and hashes of what came of it.

use pulsewire::pattern::Random;
use pulsewire::time::Duration;

/// Where every decision of a run comes from.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(Random::new(seed))
    }

    /// Dice whose throws do not depend on how often these are thrown from here on.
    pub fn split(&mut self) -> Dice {
        Dice::new(self.0.next_u64())
    }

    pub fn random(&mut self) -> Random {
        Random::new(self.0.next_u64())
    }

    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.below(most - least + 1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.0.below(len as u64)).expect("below a usize")
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// True in so many of a thousand cases.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.0.below(1_000) < chance
    }

    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.between(least * 1_000, most * 1_000))
    }

    /// Small far more often than large, as sizes and delays are: the largest halved a random number of times.
    pub fn mostly_small(&mut self, most: u64) -> u64 {
        let halvings = self.0.below(12);
        self.0.below((most >> halvings) + 1)
    }
}

/// Mixes one more number into a hash.
pub fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Mixes bytes into a hash.
pub fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(hash, bytes.len() as u64), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}
