//! Order, limits, panics, timers and ends of the event engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;
use std::vec::Vec;

use super::*;
use crate::trader::{CustomData, Exchange, OrderData, TickData, Timestamp, EVENT_TICK, EVENT_TIMER};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3_600);

fn config() -> EventEngineConfig {
    EventEngineConfig { timer_interval: None, drain_timeout: PATIENCE, ..EventEngineConfig::default() }
}

fn numbered(number: u64) -> Event {
    Event::custom("eNumber", CustomData::Bytes(number.to_le_bytes().into())).unwrap()
}

fn number_of(event: &Event) -> u64 {
    let Event::Custom(custom) = event else { panic!("{event:?} has no number") };
    let CustomData::Bytes(bytes) = custom.data() else { panic!("{event:?} has no number") };
    u64::from_le_bytes(bytes[..].try_into().unwrap())
}

fn tick(symbol: &str) -> Event {
    TickData::new("CTP", symbol, Exchange::Shfe, Timestamp::UNIX_EPOCH).into()
}

/// All that is sent until the senders are gone.
fn all<T>(receiver: &Receiver<T>) -> Vec<T> {
    let mut found = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(value) => found.push(value),
            Err(RecvTimeoutError::Disconnected) => return found,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more comes, and no end"),
        }
    }
}

/// A handler that says when it was called, and returns when it is let go.
fn gate(engine: &EventEngine, event_type: &str) -> (Receiver<()>, Sender<()>) {
    let (entered, was_entered) = channel();
    let (let_go, wait) = channel::<()>();
    engine.register(event_type, move |_| {
        entered.send(()).unwrap();
        let _ = wait.recv_timeout(PATIENCE);
    });
    (was_entered, let_go)
}

fn gate_event() -> Event {
    Event::custom("eGate", CustomData::Empty).unwrap()
}

#[test]
fn events_of_each_putter_come_in_their_order() {
    let engine = EventEngine::with_config(EventEngineConfig { capacity: 16, ..config() });
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    engine.start().unwrap();
    thread::scope(|scope| {
        for putter in 0..4 {
            let engine = &engine;
            scope.spawn(move || (0..500).for_each(|n| engine.put(numbered(putter << 32 | n)).unwrap()));
        }
    });
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
    let stats = engine.stats();
    assert_eq!((stats.put, stats.refused, stats.dropped, stats.queued), (2_000, 0, 0, 0));
    drop(engine);
    let heard = all(&receiver);
    assert_eq!(heard.len(), 2_000);
    for putter in 0..4 {
        let its: Vec<u64> = heard.iter().filter(|n| **n >> 32 == putter).map(|n| n & 0xffff_ffff).collect();
        assert!(its.iter().copied().eq(0..500));
    }
}

#[test]
fn handlers_of_the_type_come_first_then_of_the_specific_one_then_general_ones() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    let note = |who: &'static str| {
        let sender = sender.clone();
        move |event: &Event| sender.send((who, event.specific_type())).unwrap()
    };
    engine.register_general(note("general"));
    engine.register("eTick.rb.SHFE", note("specific"));
    engine.register(EVENT_TICK, note("first"));
    engine.register(EVENT_TICK, note("second"));
    engine.register("eTick.", |_| {});
    engine.start().unwrap();
    engine.put(tick("rb")).unwrap();
    engine.put(tick("cu")).unwrap();
    engine.put(OrderData::new("CTP", "rb", Exchange::Shfe, "1")).unwrap();
    assert!(engine.stop().is_over);
    drop((engine, sender));
    let (rb, cu) = ("eTick.rb.SHFE", "eTick.cu.SHFE");
    let heard = all(&receiver);
    let heard: Vec<(&str, &str)> = heard.iter().map(|(who, what)| (*who, &**what)).collect();
    let expected = [
        ("first", rb),
        ("second", rb),
        ("specific", rb),
        ("general", rb),
        ("first", cu),
        ("second", cu),
        ("general", cu),
        ("general", "eOrder.CTP.1"),
    ];
    assert_eq!(heard, expected);
}

#[test]
fn panicking_handler_loses_that_event_alone() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    let other = sender.clone();
    engine.register("eNumber", move |event| {
        let number = number_of(event);
        assert!(number != 1, "one is too many");
        sender.send(("shaky", number)).unwrap();
    });
    engine.register("eNumber", move |event| other.send(("steady", number_of(event))).unwrap());
    engine.start().unwrap();
    (0..3).for_each(|n| engine.put(numbered(n)).unwrap());
    assert!(engine.stop().is_over);
    assert_eq!(engine.stats().handler_panics, 1);
    drop(engine);
    let expected = [("shaky", 0), ("steady", 0), ("steady", 1), ("shaky", 2), ("steady", 2)];
    assert_eq!(all(&receiver), expected);
}

#[test]
fn full_queue_makes_the_putter_wait_and_then_refuses() {
    let put_timeout = Duration::from_millis(1);
    let engine = EventEngine::with_config(EventEngineConfig { capacity: 2, put_timeout, ..config() });
    let (entered, let_go) = gate(&engine, "eGate");
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    entered.recv_timeout(PATIENCE).unwrap();
    engine.put(numbered(0)).unwrap();
    engine.put(numbered(1)).unwrap();
    assert_eq!(engine.put(numbered(2)), Err(PutError::Full { limit: 2 }));
    assert_eq!(engine.try_put(numbered(2)), Err(PutError::Full { limit: 2 }));
    let stats = engine.stats();
    assert_eq!((stats.put, stats.waited, stats.refused, stats.queued), (3, 1, 2, 2));
    let_go.send(()).unwrap();
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
}

#[test]
fn waiting_putter_goes_on_when_there_is_room() {
    let engine =
        EventEngine::with_config(EventEngineConfig { capacity: 1, put_timeout: FOREVER, ..config() });
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    let (entered, let_go) = gate(&engine, "eGate");
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    entered.recv_timeout(PATIENCE).unwrap();
    engine.put(numbered(0)).unwrap();
    thread::scope(|scope| {
        let putters: Vec<_> = (1..4)
            .map(|n| {
                scope.spawn({
                    let engine = &engine;
                    move || engine.put(numbered(n))
                })
            })
            .collect();
        let begun = Instant::now();
        while engine.stats().waited < 3 {
            assert!(begun.elapsed() < PATIENCE, "they should wait by now");
            thread::yield_now();
        }
        let_go.send(()).unwrap();
        putters.into_iter().for_each(|putter| putter.join().unwrap().unwrap());
    });
    assert!(engine.stop().is_over);
    drop(engine);
    let mut heard = all(&receiver);
    heard.sort_unstable();
    assert_eq!(heard, [0, 1, 2, 3]);
}

#[test]
fn handler_that_puts_never_waits_and_is_refused_at_twice_the_limit() {
    let engine =
        EventEngine::with_config(EventEngineConfig { capacity: 2, put_timeout: FOREVER, ..config() });
    let (sender, receiver) = channel();
    let putter = engine.clone();
    engine.register("eGate", move |_| {
        (0..6).for_each(|n| sender.send(putter.put(numbered(n))).unwrap());
    });
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    let full = Err(PutError::Full { limit: 4 });
    for expected in [Ok(()), Ok(()), Ok(()), Ok(()), full, full] {
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(expected));
    }
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
    assert_eq!(engine.stats().refused, 2);
}

#[test]
fn timer_comes_though_the_queue_is_never_empty() {
    let timer_interval = Some(Duration::from_millis(1));
    let engine = EventEngine::with_config(EventEngineConfig { timer_interval, ..config() });
    let (sender, receiver) = channel();
    let putter = engine.clone();
    let goes_on = Arc::new(AtomicBool::new(true));
    let is_on = Arc::clone(&goes_on);
    engine.register("eGate", move |event| {
        if is_on.load(Ordering::SeqCst) {
            putter.put(event.clone()).unwrap();
        }
    });
    engine.register(EVENT_TIMER, move |event| {
        let _ = sender.send(event.clone());
    });
    engine.put(gate_event()).unwrap();
    engine.start().unwrap();
    for _ in 0..3 {
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Event::Timer));
    }
    assert!(engine.stats().timers >= 3);
    goes_on.store(false, Ordering::SeqCst);
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
}

#[test]
fn events_come_though_the_timer_is_always_due() {
    let timer_interval = Some(Duration::from_nanos(1));
    let engine = EventEngine::with_config(EventEngineConfig { timer_interval, ..config() });
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    engine.start().unwrap();
    for number in 0..100 {
        engine.put(numbered(number)).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(number));
    }
    assert!(engine.stats().timers > 0);
}

#[test]
fn events_put_before_the_start_are_handed_out_after_it() {
    let engine = EventEngine::with_config(EventEngineConfig { capacity: 2, ..config() });
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    engine.put(numbered(0)).unwrap();
    engine.put(numbered(1)).unwrap();
    assert_eq!(engine.try_put(numbered(2)), Err(PutError::Full { limit: 2 }));
    engine.start().unwrap();
    assert!(engine.stop().is_over);
    drop(engine);
    assert_eq!(all(&receiver), [0, 1]);
}

#[test]
fn engine_starts_again_after_a_stop_with_its_handlers() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    for life in 0..3 {
        engine.start().unwrap();
        assert!(engine.is_running());
        assert!(matches!(engine.start(), Err(StartError::AlreadyRunning)));
        engine.put(numbered(life)).unwrap();
        assert!(engine.stop().is_over);
        assert!(!engine.is_running());
        assert_eq!(engine.put(numbered(99)), Err(PutError::Stopped));
        assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true }, "twice is harmless");
    }
    drop(engine);
    assert_eq!(all(&receiver), [0, 1, 2]);
}

#[test]
fn stop_says_what_a_handler_that_does_not_come_back_has_cost() {
    let drain_timeout = Duration::from_millis(1);
    let engine = EventEngine::with_config(EventEngineConfig { drain_timeout, ..config() });
    let (entered, let_go) = gate(&engine, "eGate");
    let (sender, receiver) = channel();
    engine.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    entered.recv_timeout(PATIENCE).unwrap();
    (0..5).for_each(|n| engine.put(numbered(n)).unwrap());
    assert_eq!(engine.stop(), Stopped { dropped: 5, is_over: false });
    assert!(matches!(engine.start(), Err(StartError::StillStopping)));
    let_go.send(()).unwrap();
    let begun = Instant::now();
    while let Err(StartError::StillStopping) = engine.start() {
        assert!(begun.elapsed() < PATIENCE, "the handler has come back");
        thread::yield_now();
    }
    assert_eq!(engine.stats().dropped, 5);
    // Even an engine without work may take longer to end than it may here.
    while !engine.stop().is_over {
        assert!(begun.elapsed() < PATIENCE, "no handler is under way");
        thread::yield_now();
    }
    drop(engine);
    assert_eq!(all(&receiver), [0; 0]);
}

#[test]
fn stop_of_an_engine_that_never_started_drops_what_waits() {
    let engine = EventEngine::new();
    engine.put(numbered(0)).unwrap();
    assert_eq!(engine.stop(), Stopped { dropped: 1, is_over: true });
    assert_eq!(engine.put(numbered(1)), Err(PutError::Stopped));
}

#[test]
fn stop_in_a_handler_does_not_wait_for_itself() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    let stopper = engine.clone();
    let report = sender.clone();
    engine.register("eGate", move |_| {
        let stopped = stopper.stop();
        report.send((stopped.is_over, u64::MAX)).unwrap();
    });
    engine.register("eNumber", move |event| sender.send((true, number_of(event))).unwrap());
    engine.put(gate_event()).unwrap();
    engine.put(numbered(7)).unwrap();
    engine.start().unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok((false, u64::MAX)));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok((true, 7)), "what waited is handed out");
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
}

#[test]
fn stop_wakes_putters_that_wait() {
    let engine =
        EventEngine::with_config(EventEngineConfig { capacity: 1, put_timeout: FOREVER, ..config() });
    let (entered, let_go) = gate(&engine, "eGate");
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    entered.recv_timeout(PATIENCE).unwrap();
    engine.put(numbered(0)).unwrap();
    thread::scope(|scope| {
        let putter = scope.spawn(|| engine.put(numbered(1)));
        let begun = Instant::now();
        while engine.stats().waited < 1 {
            assert!(begun.elapsed() < PATIENCE, "it should wait by now");
            thread::yield_now();
        }
        let stopper = scope.spawn(|| engine.stop());
        assert_eq!(putter.join().unwrap(), Err(PutError::Stopped));
        let_go.send(()).unwrap();
        assert_eq!(stopper.join().unwrap(), Stopped { dropped: 0, is_over: true });
    });
}

#[test]
fn unregistered_handler_is_not_called_again_even_for_the_event_under_way() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    let (ids, id) = sync_channel(1);
    let remover = engine.clone();
    engine.register("eNumber", move |_| {
        if let Ok(id) = id.try_recv() {
            assert!(remover.unregister(id) && !remover.unregister(id));
        }
    });
    let first = sender.clone();
    let victim = engine.register("eNumber", move |event| first.send(("victim", number_of(event))).unwrap());
    engine.register("eNumber", move |event| sender.send(("other", number_of(event))).unwrap());
    engine.start().unwrap();
    engine.put(numbered(0)).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(("victim", 0)));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(("other", 0)));
    ids.send(victim).unwrap();
    engine.put(numbered(1)).unwrap();
    engine.put(numbered(2)).unwrap();
    assert!(engine.stop().is_over);
    assert_eq!(engine.stats().handler_panics, 0);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [("other", 1), ("other", 2)]);
}

#[test]
fn handler_may_register_another_that_hears_the_next_event() {
    let engine = EventEngine::with_config(config());
    let (sender, receiver) = channel();
    let registrar = engine.clone();
    let mut is_done = false;
    engine.register_general(move |_| {
        if !is_done {
            is_done = true;
            let sender = sender.clone();
            registrar.register("eNumber", move |event| sender.send(number_of(event)).unwrap());
        }
    });
    engine.start().unwrap();
    (0..3).for_each(|n| engine.put(numbered(n)).unwrap());
    assert!(engine.stop().is_over);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn last_handle_stops_the_engine() {
    struct TellsEnd(Arc<AtomicBool>);
    impl Drop for TellsEnd {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let engine = EventEngine::with_config(config());
    let has_ended = Arc::new(AtomicBool::new(false));
    let tells = TellsEnd(Arc::clone(&has_ended));
    let barrier = Arc::new(Barrier::new(2));
    let theirs = Arc::clone(&barrier);
    engine.register("eGate", move |_| {
        let _ = &tells;
        theirs.wait();
    });
    engine.start().unwrap();
    engine.put(gate_event()).unwrap();
    barrier.wait();
    let shared = Arc::downgrade(&engine.inner.shared);
    drop(engine.clone());
    assert!(engine.is_running());
    drop(engine);
    let begun = Instant::now();
    while shared.upgrade().is_some() {
        assert!(begun.elapsed() < PATIENCE, "the thread lets go");
        thread::yield_now();
    }
    assert!(has_ended.load(Ordering::SeqCst), "its handlers are gone");
}

#[test]
fn what_runs_in_turn_sees_all_before_it_and_nothing_after_it() {
    let engine = EventEngine::with_config(config());
    let (sender, order) = channel();
    let numbers = sender.clone();
    engine.register("eNumber", move |event| numbers.send(number_of(event)).unwrap());
    for number in 0..100 {
        engine.put(numbered(number)).unwrap();
        let sender = sender.clone();
        engine.run_in_turn(move || sender.send(1_000 + number).unwrap()).unwrap();
    }
    engine.run_in_turn(|| panic!("as it was told")).unwrap();
    drop(sender);
    engine.start().unwrap();
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true });
    let expected: Vec<u64> = (0..100).flat_map(|number| [number, 1_000 + number]).collect();
    assert_eq!(order.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(engine.stats().handler_panics, 1);
    assert_eq!(engine.run_in_turn(|| ()), Err(PutError::Stopped));
}

#[test]
fn what_never_has_its_turn_is_dropped_where_it_may_use_the_engine() {
    struct Asks(EventEngine, Sender<bool>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.1.send(self.0.is_running()).unwrap();
        }
    }
    let engine = EventEngine::with_config(config());
    let (sender, was_dropped) = channel();
    let asks = Asks(engine.clone(), sender);
    engine.run_in_turn(move || drop(asks)).unwrap();
    assert_eq!(engine.stop(), Stopped { dropped: 0, is_over: true }, "it is no event");
    assert_eq!(was_dropped.recv_timeout(PATIENCE), Ok(false));
}
