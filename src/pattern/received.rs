//! Bytes that came in a message.

use alloc::vec::Vec;

/// The arguments of a call, or its result, as bytes: large ones where they came together, without a copy.
#[derive(Clone, Default)]
pub struct Received {
    buffer: Vec<u8>,
    begin: usize,
}

impl Received {
    /// What begins there in this buffer.
    pub(super) fn behind(buffer: Vec<u8>, begin: usize) -> Self {
        Received { buffer, begin }
    }

    /// The bytes in a vector of their own. If it is the buffer of a message, they are moved to its beginning.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.buffer.drain(..self.begin);
        self.buffer
    }

    /// The buffer that they lie in, whatever lies before them, and where they begin.
    pub(crate) fn into_parts(self) -> (Vec<u8>, usize) {
        (self.buffer, self.begin)
    }

    /// The buffer that they lie in.
    pub(crate) fn buffer(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl From<Vec<u8>> for Received {
    fn from(buffer: Vec<u8>) -> Self {
        Received { buffer, begin: 0 }
    }
}

impl core::ops::Deref for Received {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl core::fmt::Debug for Received {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Received {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Received {}

/// What comes in a message, as it is handed on.
pub(super) enum Incoming<'a> {
    /// To be copied by whoever keeps it.
    Borrowed(&'a [u8]),
    /// To be kept as it is.
    Owned(Received),
}

impl core::ops::Deref for Incoming<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Incoming::Borrowed(bytes) => bytes,
            Incoming::Owned(received) => received,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn bytes_are_the_same_wherever_they_lie() {
        let behind = Received::behind(vec![9, 9, 1, 2, 3], 2);
        assert_eq!((&behind[..], behind.buffer().len()), (&[1, 2, 3][..], 5));
        assert_eq!(behind, Received::from(vec![1, 2, 3]));
        assert_ne!(behind, Received::from(vec![9, 9, 1, 2, 3]));
        assert_eq!(behind.clone().into_vec(), [1, 2, 3]);
        assert_eq!(Received::default().into_vec(), [0; 0]);
    }
}
