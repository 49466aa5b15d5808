//! Large frames whose bytes exist once, however many hold them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A whole frame, length field included, that chunks may be made of without a copy.
#[derive(Debug)]
pub(crate) struct SharedFrame {
    /// The frame, from `begin` on.
    buffer: Vec<u8>,
    begin: usize,
    /// What all shared frames of the same owner take.
    total: Option<Arc<AtomicUsize>>,
}

impl SharedFrame {
    /// A copy of the frame, counted in `total` for as long as anybody has it.
    pub(crate) fn copy(frame: &[u8], total: Arc<AtomicUsize>) -> Arc<Self> {
        let buffer = frame.to_vec();
        total.fetch_add(buffer.capacity(), Ordering::Relaxed);
        Arc::new(SharedFrame { buffer, begin: 0, total: Some(total) })
    }

    /// The frame at the end of this buffer, whose owner counts it.
    pub(crate) fn new(buffer: Vec<u8>, begin: usize) -> Arc<Self> {
        Arc::new(SharedFrame { buffer, begin, total: None })
    }

    /// Puts another head in front of what begins at `at` in the buffer.
    pub(crate) fn set_head(&mut self, at: usize, head: &[u8]) {
        self.begin = at - head.len();
        self.buffer[self.begin..at].copy_from_slice(head);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    /// The buffer, whatever of it the frame is.
    pub(crate) fn buffer(&self) -> &Vec<u8> {
        &self.buffer
    }

    /// The buffer of one that nobody else has.
    pub(crate) fn into_buffer(self: Arc<Self>) -> Option<Vec<u8>> {
        let mut frame = Arc::into_inner(self)?;
        frame.uncount();
        Some(core::mem::take(&mut frame.buffer))
    }

    fn uncount(&mut self) {
        if let Some(total) = self.total.take() {
            total.fetch_sub(self.buffer.capacity(), Ordering::Relaxed);
        }
    }
}

impl Drop for SharedFrame {
    fn drop(&mut self) {
        self.uncount();
    }
}
