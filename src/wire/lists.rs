//! Lists inside headers: regions of bytes that are checked once and then walked without allocating.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::ser::{Serialize, Serializer};

use super::TooLong;

const ID_BYTES: usize = 8;

/// Request ids, eight bytes each, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ids<'a>(&'a [u8]);

impl<'a> Ids<'a> {
    /// Takes a region built with [`Ids::push`]; `None` if its length is not a multiple of eight.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(ID_BYTES).then_some(Ids(bytes))
    }

    /// Appends one id to a region.
    pub fn push(region: &mut Vec<u8>, id: u64) {
        region.extend_from_slice(&id.to_le_bytes());
    }

    /// The region.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.0.len() / ID_BYTES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = u64> + 'a {
        self.0
            .chunks_exact(ID_BYTES)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks_exact yields eight bytes")))
    }
}

impl fmt::Debug for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Topic prefixes, each as one length byte and that many bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefixes<'a>(&'a [u8]);

impl<'a> Prefixes<'a> {
    /// Takes a region built with [`Prefixes::push`]; `None` if it does not hold whole prefixes of UTF-8.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while let Some((prefix, tail)) = split_prefix(rest) {
            core::str::from_utf8(prefix).ok()?;
            rest = tail;
        }
        rest.is_empty().then_some(Prefixes(bytes))
    }

    /// Appends one prefix to a region.
    ///
    /// # Errors
    /// [`TooLong`] above 255 bytes; the region is then untouched.
    pub fn push(region: &mut Vec<u8>, prefix: &str) -> Result<(), TooLong> {
        let Ok(len) = u8::try_from(prefix.len()) else {
            return Err(TooLong::name(prefix.len()));
        };
        region.push(len);
        region.extend_from_slice(prefix.as_bytes());
        Ok(())
    }

    /// The prefixes, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + 'a {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (prefix, tail) = split_prefix(rest)?;
            rest = tail;
            Some(core::str::from_utf8(prefix).expect("checked when the list was made"))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Prefixes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn split_prefix(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Serialize for Prefixes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Ids<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(BorrowedBytes)?;
        Ids::from_bytes(bytes).ok_or_else(|| D::Error::custom("ids are eight bytes each"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Prefixes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(BorrowedBytes)?;
        Prefixes::from_bytes(bytes).ok_or_else(|| D::Error::custom("prefixes are length and UTF-8"))
    }
}

struct BorrowedBytes;

impl<'de> Visitor<'de> for BorrowedBytes {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes that can be borrowed")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::{format, vec};

    use super::*;

    #[test]
    fn ids_come_back_in_the_order_in_which_they_were_written() {
        let mut region = Vec::new();
        for id in [3, u64::MAX, 0] {
            Ids::push(&mut region, id);
        }
        let ids = Ids::from_bytes(&region).unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), [3, u64::MAX, 0]);
        assert_eq!((ids.len(), ids.is_empty()), (3, false));
        assert_eq!(format!("{ids:?}"), format!("[3, {}, 0]", u64::MAX));
        assert!(Ids::from_bytes(&[]).unwrap().is_empty());
    }

    #[test]
    fn half_an_id_is_refused() {
        assert_eq!(Ids::from_bytes(&[0; 7]), None);
        assert_eq!(Ids::from_bytes(&[0; 9]), None);
    }

    #[test]
    fn prefixes_come_back_in_the_order_in_which_they_were_written() {
        let longest = String::from_utf8(vec![b'p'; 255]).unwrap();
        let mut region = Vec::new();
        for prefix in ["tick.", "", &longest, "Zinn ä"] {
            Prefixes::push(&mut region, prefix).unwrap();
        }
        let prefixes = Prefixes::from_bytes(&region).unwrap();
        assert_eq!(prefixes.iter().collect::<Vec<_>>(), ["tick.", "", &longest, "Zinn ä"]);
        assert!(!prefixes.is_empty());
        assert!(Prefixes::from_bytes(&[]).unwrap().is_empty());
        assert!(!Prefixes::from_bytes(&[0]).unwrap().is_empty(), "one prefix, which matches everything");
    }

    #[test]
    fn prefix_above_255_bytes_leaves_the_region_untouched() {
        let longer = String::from_utf8(vec![b'p'; 256]).unwrap();
        let mut region = vec![1, b'a'];
        assert_eq!(Prefixes::push(&mut region, &longer), Err(TooLong { len: 256, limit: 255 }));
        assert_eq!(region, [1, b'a']);
    }

    #[test]
    fn torn_prefix_and_one_that_is_not_utf8_are_refused() {
        assert_eq!(Prefixes::from_bytes(&[1]), None);
        assert_eq!(Prefixes::from_bytes(&[2, b'a', b'b', 3, b'c', b'd']), None);
        assert_eq!(Prefixes::from_bytes(&[1, 0xff]), None);
        let split_letter = "ä".as_bytes();
        assert_eq!(Prefixes::from_bytes(&[1, split_letter[0], 1, split_letter[1]]), None);
    }
}
