//! The send queue of a connection, and the chunks that a driver writes from it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SharedFrame;
use crate::wire;

/// Bytes of the control queue that one chunk takes at most: a large set of prefixes is no reason for a large buffer.
const CONTROL_PER_CHUNK: usize = 64 * 1024;

/// Bytes for one write, lent to the driver: it writes as many of [`Chunk::bytes`] as the socket takes and hands the
/// chunk back with that number. While it is out, no other chunk of the same connection is.
#[derive(Debug, Default)]
pub struct Chunk {
    buffer: Vec<u8>,
    /// A large frame that others write as well: it is the whole chunk then, and `buffer` is empty.
    shared: Option<Arc<SharedFrame>>,
    /// Bytes that have been written already.
    start: usize,
    /// Bytes of `buffer`, from its beginning, that are copied from the control queue. Whole frames of the roles
    /// follow them.
    control: usize,
    /// The buffer is the tail of the begun frame with this tag, and nothing else.
    tail_of: Option<u64>,
    /// The control queue was longer than a chunk: its next bytes come first, so no frame may follow here.
    cut: bool,
}

impl Chunk {
    /// What is to be written.
    pub fn bytes(&self) -> &[u8] {
        &self.whole()[self.start..]
    }

    fn whole(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.buffer, |frame| frame.bytes())
    }

    /// Bytes of memory that it takes and shares with nobody.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// The buffer behind the control bytes, to append whole frames of the role to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.shared.is_none(), "nothing goes behind a frame that is shared");
        &mut self.buffer
    }

    /// Makes a ready frame the whole chunk, without copying it. Returns the buffer that it had.
    pub(crate) fn replace_by(&mut self, frame: Vec<u8>) -> Vec<u8> {
        debug_assert!(self.buffer.is_empty(), "only an empty chunk can become one frame");
        core::mem::replace(&mut self.buffer, frame)
    }

    /// Makes a frame that others write as well the whole chunk.
    pub(crate) fn share(&mut self, frame: Arc<SharedFrame>) {
        debug_assert!(self.buffer.is_empty(), "only an empty chunk can become one frame");
        self.shared = Some(frame);
    }

    /// Whether frames of the role may be appended.
    pub(crate) fn accepts_frames(&self) -> bool {
        !self.cut && self.tail_of.is_none()
    }

    /// The chunk is the tail of a frame that was begun, and begun frames were accounted for then.
    pub(crate) fn is_tail(&self) -> bool {
        self.tail_of.is_some()
    }

    /// The role's frames by their tags (see [`wire::frame_tag`]), with how far `written` more bytes bring each.
    pub(crate) fn fates(&self, written: usize) -> impl Iterator<Item = (u64, Fate)> + '_ {
        let reached = self.start + written;
        self.frames().map(move |frame| (frame.tag, frame.fate(reached)))
    }

    /// Takes its buffer, once nothing of it is needed any more.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    fn frames(&self) -> impl Iterator<Item = Placed> + '_ {
        let tail = self.tail_of.map(|tag| Placed { tag, begin: None, end: self.whole().len() });
        let mut begin = if tail.is_some() { self.whole().len() } else { self.control };
        let whole = core::iter::from_fn(move || {
            let (len, tag) = wire::frame_tag(self.whole().get(begin..)?)?;
            let placed = Placed { tag, begin: Some(begin), end: begin + len };
            begin += len;
            Some(placed)
        });
        tail.into_iter().chain(whole)
    }
}

/// A frame's place in a chunk.
#[derive(Debug, Clone, Copy)]
struct Placed {
    tag: u64,
    /// `None` if it was begun before this chunk: it is never untouched again, even if the kernel takes nothing now.
    begin: Option<usize>,
    end: usize,
}

impl Placed {
    fn fate(self, reached: usize) -> Fate {
        if self.end <= reached {
            Fate::Written
        } else if self.begin.is_none_or(|begin| begin < reached) {
            Fate::Begun
        } else {
            Fate::Untouched
        }
    }
}

/// How far a frame of a chunk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The kernel has taken its last byte.
    Written,
    /// The kernel has taken some of it: it must be finished on this connection, or is cut off with it.
    Begun,
    /// The kernel has taken nothing of it.
    Untouched,
}

/// The send queue of a connection: control frames that go first, and the tail of a begun frame that goes before all.
///
/// Frames of the roles (requests, replies, publications) are not kept here: they are appended to a chunk when it is
/// taken and forgotten again if the kernel took nothing of them, so that a call still queued can be withdrawn and
/// every frame is written with what is true at that moment.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    control: Vec<u8>,
    /// Bytes of `control` that have been written.
    control_done: usize,
    /// The tail of a begun frame: few connections have one at a time.
    rest: Option<Box<Chunk>>,
    /// A chunk is with the driver.
    lent: bool,
}

impl Outbox {
    /// The queue of control frames, to append to.
    pub(crate) fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Bytes that wait here.
    pub(crate) fn len(&self) -> usize {
        self.control.len() - self.control_done + self.rest_len()
    }

    /// Bytes of the begun frame that wait here.
    pub(crate) fn rest_len(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.bytes().len())
    }

    /// Bytes of memory that the begun frame takes here.
    pub(crate) fn rest_memory(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.memory())
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Takes the next chunk: the tail of a begun frame alone, or the control frames in `buffer` with room for more
    /// behind them. The buffer comes back while a chunk is out.
    pub(crate) fn take(&mut self, mut buffer: Vec<u8>) -> Result<Taken, Vec<u8>> {
        if self.lent {
            return Err(buffer);
        }
        self.lent = true;
        if let Some(rest) = self.rest.take() {
            return Ok(Taken::Rest(*rest, buffer));
        }
        buffer.clear();
        let waiting = &self.control[self.control_done..];
        let control = waiting.len().min(CONTROL_PER_CHUNK);
        buffer.extend_from_slice(&waiting[..control]);
        let cut = control < waiting.len();
        Ok(Taken::Fresh(Chunk { buffer, shared: None, start: 0, control, tail_of: None, cut }))
    }

    /// Gives a chunk back that turned out to hold nothing. Returns its buffer.
    pub(crate) fn untake(&mut self, chunk: Chunk) -> Vec<u8> {
        self.lent = false;
        chunk.buffer
    }

    /// Takes note of what the kernel took, and keeps the tail of a begun frame. Returns the buffer if it is free.
    pub(crate) fn put_back(&mut self, mut chunk: Chunk, written: usize) -> Option<Vec<u8>> {
        self.lent = false;
        let reached = chunk.start + written;
        self.control_done += reached.min(chunk.control) - chunk.start.min(chunk.control);
        if self.control_done == self.control.len() {
            // A heartbeat now and then is no reason to hold memory in between.
            self.control = Vec::new();
            self.control_done = 0;
        }
        // A fresh chunk starts at 0 and a tail has no control bytes, so `start` never splits the control part.
        let begun = (reached < chunk.whole().len())
            .then(|| chunk.frames().find(|frame| frame.fate(reached) == Fate::Begun))
            .flatten();
        let Some(frame) = begun else { return Some(chunk.buffer) };
        chunk.start = reached;
        chunk.control = 0;
        chunk.tail_of = Some(frame.tag);
        if chunk.shared.is_some() {
            let buffer = core::mem::take(&mut chunk.buffer);
            self.rest = Some(Box::new(chunk));
            return Some(buffer);
        }
        let tail = frame.end - reached;
        if chunk.buffer.capacity() > 2 * tail {
            // A short tail does not keep a long buffer alive.
            let kept = chunk.buffer[reached..frame.end].to_vec();
            self.rest = Some(Box::new(Chunk { buffer: kept, start: 0, shared: None, ..chunk }));
            return Some(chunk.buffer);
        }
        chunk.buffer.truncate(frame.end);
        self.rest = Some(Box::new(chunk));
        None
    }

    /// The tag of the begun frame that waits to be finished, if there is one.
    pub(crate) fn begun(&self) -> Option<u64> {
        self.rest.as_ref().and_then(|rest| rest.tail_of)
    }
}

/// A chunk as it comes out of the outbox.
pub(crate) enum Taken {
    /// The tail of a begun frame: nothing may be added. The unused buffer comes back.
    Rest(Chunk, Vec<u8>),
    /// Control frames, perhaps none: role frames may be added.
    Fresh(Chunk),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A frame of twelve bytes behind its length, whose tag is `tag`.
    fn frame(tag: u64) -> Vec<u8> {
        let mut frame = vec![12, 0, 0, 0, 8];
        frame.extend_from_slice(&tag.to_le_bytes());
        frame.extend_from_slice(b"abc");
        frame
    }

    fn with_frames(outbox: &mut Outbox, tags: &[u64]) -> Chunk {
        let Ok(Taken::Fresh(mut chunk)) = outbox.take(Vec::new()) else { panic!("expected a fresh chunk") };
        for tag in tags {
            chunk.buffer().extend_from_slice(&frame(*tag));
        }
        chunk
    }

    fn fates(chunk: &Chunk, written: usize) -> Vec<(u64, Fate)> {
        chunk.fates(written).collect()
    }

    #[test]
    fn control_goes_first_and_untouched_frames_are_forgotten() {
        let mut outbox = Outbox::default();
        outbox.control().extend_from_slice(b"ccc");
        let chunk = with_frames(&mut outbox, &[1, 2]);
        assert_eq!(&chunk.bytes()[..3], b"ccc");
        assert_eq!(fates(&chunk, 3), vec![(1, Fate::Untouched), (2, Fate::Untouched)]);
        assert_eq!(fates(&chunk, 19), vec![(1, Fate::Written), (2, Fate::Untouched)]);
        assert_eq!(fates(&chunk, 20), vec![(1, Fate::Written), (2, Fate::Begun)]);
        assert!(outbox.put_back(chunk, 19).is_some());
        assert_eq!(outbox.len(), 0);
        assert_eq!(outbox.begun(), None);
    }

    #[test]
    fn a_begun_frame_is_finished_before_anything_else() {
        let mut outbox = Outbox::default();
        let chunk = with_frames(&mut outbox, &[1, 2]);
        let whole = chunk.bytes().to_vec();
        outbox.put_back(chunk, 3);
        assert_eq!(outbox.begun(), Some(1));
        outbox.control().extend_from_slice(b"ccc");
        let Ok(Taken::Rest(chunk, _)) = outbox.take(Vec::new()) else { panic!("expected the rest") };
        assert_eq!(chunk.bytes(), &whole[3..16], "the second frame was not touched and is not kept");
        assert!(outbox.take(Vec::new()).is_err(), "one chunk at a time");
        assert_eq!(fates(&chunk, 2), vec![(1, Fate::Begun)]);
        outbox.put_back(chunk, 2);
        let Ok(Taken::Rest(chunk, _)) = outbox.take(Vec::new()) else { panic!("expected the rest") };
        assert_eq!(chunk.bytes(), &whole[5..16]);
        assert_eq!(fates(&chunk, 11), vec![(1, Fate::Written)]);
        assert!(outbox.put_back(chunk, 11).is_some());
        assert_eq!(with_frames(&mut outbox, &[]).bytes(), b"ccc");
    }

    #[test]
    fn a_begun_frame_stays_begun_when_the_kernel_takes_nothing_more_of_it() {
        let mut outbox = Outbox::default();
        let chunk = with_frames(&mut outbox, &[1]);
        let whole = chunk.bytes().to_vec();
        outbox.put_back(chunk, 3);
        for _ in 0..3 {
            let Ok(Taken::Rest(chunk, _)) = outbox.take(Vec::new()) else { panic!("expected the rest") };
            assert_eq!(chunk.bytes(), &whole[3..]);
            assert_eq!(fates(&chunk, 0), vec![(1, Fate::Begun)]);
            assert_eq!(outbox.put_back(chunk, 0), None);
            assert_eq!(outbox.begun(), Some(1));
        }
    }

    #[test]
    fn a_control_frame_cut_in_the_middle_goes_on_where_it_was() {
        let mut outbox = Outbox::default();
        outbox.control().extend_from_slice(b"abcdef");
        let chunk = with_frames(&mut outbox, &[1]);
        assert!(outbox.put_back(chunk, 2).is_some());
        assert_eq!(with_frames(&mut outbox, &[]).bytes(), b"cdef");
    }

    #[test]
    fn a_ready_frame_becomes_the_chunk_without_a_copy() {
        let mut outbox = Outbox::default();
        let mut chunk = with_frames(&mut outbox, &[]);
        let ready = frame(7);
        let place = ready.as_ptr();
        chunk.replace_by(ready);
        assert_eq!(chunk.bytes().as_ptr(), place);
        assert_eq!(fates(&chunk, 16), vec![(7, Fate::Written)]);
    }

    #[test]
    fn a_shared_frame_is_begun_once_and_ends_with_its_chunk() {
        let total = Arc::default();
        let shared = SharedFrame::copy(&frame(7), Arc::clone(&total));
        let mut outbox = Outbox::default();
        let share = |outbox: &mut Outbox| {
            let mut chunk = with_frames(outbox, &[]);
            chunk.share(Arc::clone(&shared));
            chunk
        };
        let chunk = share(&mut outbox);
        assert_eq!((fates(&chunk, 0), chunk.memory()), (vec![(7, Fate::Untouched)], 0));
        outbox.put_back(chunk, 0);
        assert_eq!((outbox.begun(), Arc::strong_count(&shared)), (None, 1), "nothing of it has been written");
        let chunk = share(&mut outbox);
        assert!(outbox.put_back(chunk, 5).is_some(), "the buffer is free");
        for _ in 0..2 {
            let Ok(Taken::Rest(chunk, _)) = outbox.take(Vec::new()) else { panic!("expected the rest") };
            assert_eq!((chunk.bytes(), fates(&chunk, 0)), (&frame(7)[5..], vec![(7, Fate::Begun)]));
            assert!(outbox.put_back(chunk, 0).is_some());
            assert_eq!((outbox.begun(), outbox.rest_len(), outbox.rest_memory()), (Some(7), 11, 0));
        }
        let Ok(Taken::Rest(lent, _)) = outbox.take(Vec::new()) else { panic!("expected the rest") };
        drop((outbox, shared));
        assert_eq!(total.load(core::sync::atomic::Ordering::Relaxed), 16, "the driver has it still");
        drop(lent.into_buffer());
        assert_eq!(total.load(core::sync::atomic::Ordering::Relaxed), 0);
    }
}
