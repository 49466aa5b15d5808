//! Tables under numbers that we gave out ourselves.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table whose keys are made of numbers that nobody else chooses: tokens, connections, calls. So no key has to be
/// guarded against, and scattering it costs a multiplication.
pub(crate) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Mixes each number in by a multiplication.
#[derive(Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        // The table looks at both ends.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's bits, as in Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4).
        const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(MIXER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_lie_apart() {
        let mut ends = [0u32; 128];
        let mut buckets = [0u32; 1024];
        for number in 0..1024u64 {
            let mut mixer = Mixer::default();
            mixer.write_u64(number);
            let hash = mixer.finish();
            ends[(hash >> 57) as usize] += 1;
            buckets[(hash & 1023) as usize] += 1;
        }
        assert!(ends.iter().all(|count| *count <= 32), "the top seven bits");
        assert!(buckets.iter().all(|count| *count <= 8), "the low ten bits");
    }
}
