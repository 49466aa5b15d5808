//! Large frames whose bytes exist once, however many connections are in the middle of them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A whole frame, length field included, that several chunks may be made of.
#[derive(Debug)]
pub(crate) struct SharedFrame {
    bytes: Vec<u8>,
    /// What all shared frames of the same owner take.
    total: Arc<AtomicUsize>,
}

impl SharedFrame {
    /// A copy of the frame, counted in `total` for as long as anybody has it.
    pub(crate) fn new(frame: &[u8], total: Arc<AtomicUsize>) -> Arc<Self> {
        let bytes = frame.to_vec();
        total.fetch_add(bytes.capacity(), Ordering::Relaxed);
        Arc::new(SharedFrame { bytes, total })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for SharedFrame {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}
