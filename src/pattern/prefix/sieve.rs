//! What many threads may ask at once whether anybody could hold a prefix of a topic.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

/// Tells most topics that nobody holds a prefix of, without the index and its owner.
///
/// A Bloom filter (Bloom 1970), blocked as in Putze, Sanders and Singler (2007): three bits for each prefix, in one word of
/// memory. A prefix is entered by the beginning of it that has a whole
/// number of words, of four bytes each and eight at most, or by all of it if it is shorter than a word. A topic is looked
/// up with those of its beginnings that have such a length, which are few: each word adds one multiplication. So `false` is
/// certain, and `true` says nothing.
///
/// ```text
/// "tick.rb2410." is entered as  "tick.rb2410."     (12 bytes)
/// "tick.rb"      is entered as  "tick"             ( 4 bytes)
/// "tick.rb2410.SHFE" is asked for as "tick", "tick.rb2410."
/// ```
///
/// One owner enters and clears; any thread asks. Whoever has seen a bit as a change left it has seen all that the owner
/// did before that change.
pub(crate) struct Sieve {
    seed: u64,
    /// Bit n: a beginning of n words was entered; from [`SHORT`] on: one of so many bytes, `""` among them.
    lengths: AtomicU32,
    /// A power of two of them.
    bits: Box<[AtomicU32]>,
}

/// Bytes of a word.
const WORD: usize = 4;
/// Words of the longest beginning.
const MOST_WORDS: usize = 8;
/// Where the lengths below a word begin.
const SHORT: usize = 16;
/// Bytes of the longest beginning.
pub(super) const MOST_BYTES: usize = MOST_WORDS * WORD;

impl Sieve {
    /// One of so many bytes, a power of two, that nothing was entered into.
    pub(crate) fn new(seed: u64, bytes: usize) -> Self {
        let words = bytes / size_of::<u32>();
        debug_assert!(words.is_power_of_two());
        let bits = (0..words).map(|_| AtomicU32::new(0)).collect();
        Sieve { seed, lengths: AtomicU32::new(0), bits }
    }

    /// Enters a prefix.
    pub(crate) fn enter(&self, prefix: &[u8]) {
        let (length, mark) = match prefix.len() / WORD {
            0 => (SHORT + prefix.len(), self.short_mark(prefix)),
            words => {
                let words = words.min(MOST_WORDS);
                let beginning = prefix.chunks_exact(WORD).take(words);
                (words, beginning.fold(self.seed, mix))
            }
        };
        let (place, bits) = self.place(mark);
        self.bits[place].fetch_or(bits, Ordering::Release);
        self.lengths.fetch_or(1 << length, Ordering::Release);
    }

    /// Words of memory.
    pub(crate) fn len(&self) -> usize {
        self.bits.len()
    }

    /// Nothing is entered any more.
    pub(crate) fn clear(&self) {
        self.lengths.store(0, Ordering::Release);
        self.bits.iter().for_each(|word| word.store(0, Ordering::Release));
    }

    /// Whether somebody may hold a prefix of `topic`. False: nobody does.
    #[inline]
    pub(crate) fn may_match(&self, topic: &[u8]) -> bool {
        let lengths = self.lengths.load(Ordering::Acquire);
        if lengths >> SHORT != 0 && self.may_match_short(lengths, topic) {
            return true;
        }
        let mut mark = self.seed;
        let mut left = (lengths & ((1 << SHORT) - 1)) >> 1;
        for word in topic.chunks_exact(WORD) {
            if left == 0 {
                return false;
            }
            mark = mix(mark, word);
            if left & 1 != 0 && self.has(mark) {
                return true;
            }
            left >>= 1;
        }
        false
    }

    fn may_match_short(&self, lengths: u32, topic: &[u8]) -> bool {
        let is_entered = |len: &usize| lengths & (1 << (SHORT + len)) != 0;
        let mut beginnings = (0..WORD).filter(is_entered).filter_map(|len| topic.get(..len));
        beginnings.any(|beginning| self.has(self.short_mark(beginning)))
    }

    /// Less than a word, told from the others by its length.
    fn short_mark(&self, beginning: &[u8]) -> u64 {
        let mut word = [0; WORD];
        word[..beginning.len()].copy_from_slice(beginning);
        mix(self.seed.wrapping_add(beginning.len() as u64), &word)
    }

    #[inline]
    fn has(&self, mark: u64) -> bool {
        let (place, bits) = self.place(mark);
        self.bits[place].load(Ordering::Acquire) & bits == bits
    }

    /// Where the bits of a beginning are, and which.
    #[inline]
    fn place(&self, mark: u64) -> (usize, u32) {
        let bit = |shift: u32| 1 << ((mark >> shift) & 31);
        ((mark & 0xffff_ffff) as usize & (self.bits.len() - 1), bit(32) | bit(37) | bit(42))
    }
}

/// Mixes a word into what the words before it have come to.
#[inline]
fn mix(mark: u64, word: &[u8]) -> u64 {
    // The golden ratio's bits, as in the cache.
    const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;
    let word = u32::from_le_bytes(word.try_into().expect("a word"));
    let product = (mark ^ u64::from(word)).wrapping_mul(MIXER);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::super::PrefixIndex;
    use super::*;

    fn sieve<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Sieve {
        let sieve = Sieve::new(7, 16 * 1024);
        prefixes.into_iter().for_each(|prefix| sieve.enter(prefix.as_bytes()));
        sieve
    }

    #[test]
    fn topics_that_part_from_all_prefixes_are_sifted_out() {
        let sieve = sieve(["tick.rb2410.", "order", "b.", "a-topic-that-is-longer-than-eight-words"]);
        for wanted in
            ["tick.rb2410.SHFE", "order", "orders", "b.c", "a-topic-that-is-longer-than-eight-words!"]
        {
            assert!(sieve.may_match(wanted.as_bytes()), "{wanted}");
        }
        for unwanted in ["", "t", "tick", "tick.rb2411.SHFE", "trade", "c.", "b", "a-topic-that-is-short"] {
            assert!(!sieve.may_match(unwanted.as_bytes()), "{unwanted}");
        }
        sieve.clear();
        assert!(!sieve.may_match(b"order"));
    }

    #[test]
    fn few_topics_pass_that_nobody_wants_also_with_ten_thousand_prefixes() {
        let prefixes: Vec<String> = (0..10_000).map(|n| format!("tick.9{n:05}.")).collect();
        let sieve = sieve(prefixes.iter().map(String::as_str));
        let passed = (0..10_000).filter(|n| sieve.may_match(format!("tick.{n:05}.SH").as_bytes())).count();
        assert!(passed < 400, "{passed} of 10 000, where 150 to 200 are to be expected");
    }

    fn word() -> impl Strategy<Value = String> {
        "[ab.\\x00é]{0,40}"
    }

    proptest! {
        #[test]
        fn nothing_that_anybody_wants_is_sifted_out(
            prefixes in prop::collection::btree_set(word(), 0..20),
            ends in prop::collection::vec(word(), 20),
        ) {
            let mut index = PrefixIndex::new();
            prefixes.iter().for_each(|prefix| assert!(index.insert(prefix, 1)));
            let entered = sieve(prefixes.iter().map(String::as_str));
            let again = sieve([]);
            index.for_each_beginning(|beginning| again.enter(beginning));
            for (prefix, end) in prefixes.iter().zip(&ends) {
                let topic = format!("{prefix}{end}");
                prop_assert!(entered.may_match(prefix.as_bytes()) && entered.may_match(topic.as_bytes()));
                prop_assert!(again.may_match(prefix.as_bytes()) && again.may_match(topic.as_bytes()));
            }
        }

        #[test]
        fn the_beginnings_of_all_prefixes_are_named_once(
            prefixes in prop::collection::btree_set(word(), 0..20),
            gone in prop::collection::vec(any::<bool>(), 20),
        ) {
            let mut index = PrefixIndex::new();
            prefixes.iter().for_each(|prefix| assert!(index.insert(prefix, 1)));
            let mut left: BTreeSet<&str> = prefixes.iter().map(String::as_str).collect();
            for (prefix, _) in prefixes.iter().zip(gone).filter(|(_, gone)| *gone) {
                assert!(index.remove(prefix, 1) && left.remove(prefix.as_str()));
            }
            let expected: BTreeSet<&[u8]> =
                left.iter().map(|prefix| &prefix.as_bytes()[..prefix.len().min(MOST_BYTES)]).collect();
            let mut named = Vec::new();
            index.for_each_beginning(|beginning| named.push(beginning.to_vec()));
            named.sort();
            let expected: Vec<Vec<u8>> = expected.into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(named, expected);
        }
    }
}
