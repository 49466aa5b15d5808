//! Events on their way to the event engine, in the order in which they happened.
//!
//! Putting an event may wait for room, and room is made by handlers, which may be calling this gateway. So nobody waits
//! with the exchange locked: events are queued under its lock, and put without it by whoever comes first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::trader::{Event, EventEngine, PutError};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Told when somebody has stopped putting.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Somebody is putting. What others add meanwhile goes with it.
    is_flushing: bool,
    /// Events that were dropped because the engine is stopped.
    dropped: u64,
}

impl Outbox {
    /// Adds events behind all others.
    pub(super) fn push(&self, events: Vec<Event>) {
        self.lock().events.extend(events);
    }

    /// Events that have not been put.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Events that were dropped because the engine is stopped.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Puts all events, unless somebody does already. An event that the engine had no room for in time stays in front, for
    /// the next flush; when the engine is stopped nobody will ever listen, and all are dropped, and counted.
    pub(super) fn flush(&self, engine: &EventEngine) {
        let queue = self.lock();
        if !queue.is_flushing {
            self.put_all(queue, engine);
        }
    }

    /// As [`Outbox::flush`], for the last time: waits for whoever puts already, so that nothing is left when this returns
    /// but what the engine has no room for. It waits as long as one put may take; gives how many are left.
    pub(super) fn flush_last(&self, engine: &EventEngine) -> usize {
        let queue = self.lock();
        let queue = self.idle.wait_while(queue, |queue| queue.is_flushing);
        self.put_all(queue.unwrap_or_else(PoisonError::into_inner), engine);
        self.len()
    }

    fn put_all<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, engine: &EventEngine) {
        while let Some(event) = queue.events.front().cloned() {
            queue.is_flushing = true;
            drop(queue);
            let put = engine.put(event);
            queue = self.lock();
            match put {
                Ok(()) => drop(queue.events.pop_front()),
                Err(PutError::Stopped) => {
                    let dropped = core::mem::take(&mut queue.events).len();
                    queue.dropped += u64::try_from(dropped).unwrap_or(u64::MAX);
                    log::warn!("events-dropped: {dropped} reports behind the end of the event engine");
                }
                Err(PutError::Full { limit }) => {
                    log::warn!("events-wait: {} behind {limit} in the event engine", queue.events.len());
                    break;
                }
            }
        }
        queue.is_flushing = false;
        drop(queue);
        self.idle.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::sync::mpsc::{channel, Receiver};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::trader::{CustomData, EventEngineConfig};

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn event(number: usize) -> Event {
        Event::custom(format!("e{number}"), CustomData::Empty).unwrap()
    }

    fn engine(capacity: usize) -> (EventEngine, Receiver<String>) {
        let engine = EventEngine::with_config(EventEngineConfig {
            capacity,
            put_timeout: Duration::ZERO,
            timer_interval: None,
            ..EventEngineConfig::default()
        });
        let (sender, types) = channel();
        engine.register_general(move |event| sender.send(event.specific_type()).unwrap());
        (engine, types)
    }

    #[test]
    fn events_that_find_no_room_wait_in_their_order() {
        let (engine, types) = engine(2);
        let outbox = Outbox::default();
        outbox.push((0..5).map(event).collect());
        outbox.flush(&engine);
        assert_eq!(outbox.len(), 3, "two have room");
        outbox.push([event(5)].into());
        engine.start().unwrap();
        let begun = std::time::Instant::now();
        while outbox.len() > 0 {
            assert!(begun.elapsed() < PATIENCE);
            outbox.flush(&engine);
            std::thread::yield_now();
        }
        let heard: Vec<String> = (0..6).map(|_| types.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(heard, ["e0", "e1", "e2", "e3", "e4", "e5"]);
    }

    #[test]
    fn nothing_waits_for_a_stopped_engine() {
        let (engine, _types) = engine(10);
        let outbox = Outbox::default();
        assert!(engine.stop().is_over);
        outbox.push([event(1), event(2)].into());
        outbox.flush(&engine);
        assert_eq!((outbox.len(), outbox.dropped()), (0, 2));
    }

    #[test]
    fn last_flush_waits_for_whoever_puts_and_leaves_nothing() {
        let (engine, types) = {
            let config = EventEngineConfig {
                capacity: 1,
                put_timeout: PATIENCE,
                timer_interval: None,
                ..EventEngineConfig::default()
            };
            let engine = EventEngine::with_config(config);
            let (sender, types) = channel();
            engine.register_general(move |event| sender.send(event.specific_type()).unwrap());
            (engine, types)
        };
        let outbox = Outbox::default();
        outbox.push((0..3).map(event).collect());
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.flush(&engine));
            while engine.stats().waited == 0 {
                std::thread::yield_now(); // Until the other one waits for room.
            }
            outbox.flush(&engine);
            assert_eq!(outbox.len(), 2, "one that is not the last does not wait");
            outbox.push([event(3)].into());
            let last = scope.spawn(|| outbox.flush_last(&engine));
            engine.start().unwrap();
            assert_eq!(last.join().unwrap(), 0);
            assert_eq!((outbox.len(), engine.stop().dropped), (0, 0));
        });
        let heard: Vec<String> = types.try_iter().collect();
        assert_eq!((heard, outbox.dropped()), (["e0", "e1", "e2", "e3"].map(String::from).into(), 0));
    }

    #[test]
    fn what_is_added_while_somebody_puts_goes_with_it() {
        let (engine, types) = engine(10);
        let outbox = Arc::new(Outbox::default());
        engine.register("e0", {
            let (outbox, engine) = (Arc::clone(&outbox), engine.clone());
            move |_| {
                outbox.push([event(1)].into());
                outbox.flush(&engine);
            }
        });
        engine.start().unwrap();
        outbox.push([event(0), event(2)].into());
        outbox.flush(&engine);
        // The handler's event may be put by either thread; none is lost, and none comes twice.
        let mut heard: Vec<String> = (0..3).map(|_| types.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(heard.remove(0), "e0");
        heard.sort();
        assert_eq!(heard, ["e1", "e2"]);
        assert!(engine.stop().is_over);
        assert!(types.try_recv().is_err());
    }
}
