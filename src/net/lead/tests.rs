//! Who leads, and who makes way for whom.

use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::net::port::Bare;
use crate::net::{Keepalive, Port};
use crate::pattern::{CallOptions, Limits, Random, Reconnect, Requester, SessionId};

/// For what happens within a moment.
const LONG: Duration = Duration::from_secs(20);

/// A driver that whoever waits turns, and nobody else.
fn shared() -> (Arc<Mutex<Driver>>, Arc<Shared>) {
    let (driver, shared) = crate::net::driver(&Limits::tiny(), Keepalive::default()).unwrap();
    let driver = Arc::new(Mutex::new(driver));
    shared.lead.share(&driver);
    (driver, shared)
}

/// Waits until this thread leads while it waits.
fn wait_to_lead(shared: &Shared) -> Option<()> {
    let me = thread::current();
    shared.lead.wait(shared, shared.clock.now() + LONG, || shared.lead.is_led_by(&me).then_some(()))
}

#[test]
fn callers_who_only_begin_calls_keep_the_caretaker_away_no_longer_than_one_who_waited() {
    let (lead, clock) = (Lead::default(), Clock::new());
    lead.driver.set(Weak::new()).expect("nobody has shared one");
    let turn = lead.begin(Leader::Waiter);
    assert!(!lead.is_left_to_callers(), "somebody turns the driver");
    let freed_at = clock.now();
    lead.note_freed(freed_at);
    lead.end_care(Some(turn), &clock);
    for _ in 0..1_000 {
        assert!(lead.is_left_to_callers());
    }
    assert_eq!(lead.freed_at.load(Ordering::SeqCst), freed_at.as_micros() + 1, "it is as free as before");
    // It comes, and has it.
    lead.await_leisure(&clock);
    assert!(lead.begin_care().is_some() && !lead.is_left_to_callers());
}

#[test]
fn what_another_leader_brought_after_the_last_look_is_found_before_the_first_turn() {
    let (_driver, shared) = shared();
    let mut looks = 0;
    // Brought by somebody who has let the driver go by the time that this thread takes it: no turn would end for it.
    let deadline = shared.clock.now() + LONG;
    let found = shared.lead.wait(&shared, deadline, || {
        looks += 1;
        (looks > 1).then_some(looks)
    });
    assert!(found == Some(2) && shared.clock.now() < deadline, "it slept for what was there");
}

#[test]
fn what_the_last_turn_brought_is_found_though_there_is_no_time_left() {
    let (driver, shared) = shared();
    let random = Random::new(1);
    let mut machine = Requester::new(Limits::tiny(), Reconnect::default(), 1, SessionId::default(), random);
    machine.start();
    let port = Port::new(Bare::<Requester>::new(), machine, Arc::clone(&shared));
    driver.lock().unwrap().add(Box::new(Arc::clone(&port)), std::vec!["127.0.0.1:1".parse().unwrap()]);
    let deadline = shared.clock.now() + Duration::from_millis(1);
    port.command(|requester, now| {
        let options = CallOptions { deadline, idempotent: false, fail_fast: false };
        requester.call(now, "f", &[], options).expect("room");
    });
    while shared.clock.now() <= deadline {
        thread::yield_now();
    }
    // A turn sees that its time is over, and no sooner does anybody.
    let done = shared.lead.wait(&shared, Instant::ZERO, || port.lock().machine.poll_done());
    assert!(done.is_some(), "there was one turn, and nobody looked at what it had brought");
}

#[test]
fn an_attendant_makes_way_for_whoever_waits_and_has_the_driver_again() {
    let (_driver, shared) = shared();
    let is_over = Arc::new(AtomicBool::new(false));
    let attendant = thread::spawn({
        let (shared, is_over) = (Arc::clone(&shared), Arc::clone(&is_over));
        move || shared.lead.attend(&shared, || is_over.load(Ordering::SeqCst).then_some(()))
    });
    let deadline = shared.clock.now() + LONG;
    for _ in 0..50 {
        while !shared.lead.is_led_by(attendant.thread()) {
            assert!(shared.clock.now() < deadline, "it does not have the driver");
            thread::yield_now();
        }
        assert_eq!(wait_to_lead(&shared), Some(()), "it keeps the driver");
    }
    is_over.store(true, Ordering::SeqCst);
    shared.lead.rouse(attendant.thread(), &shared);
    assert_eq!(attendant.join().unwrap(), Some(()));
}

#[test]
fn all_who_wait_lead_before_an_attendant_does() {
    let (driver, shared) = shared();
    let guard = driver.lock().unwrap();
    let turn = shared.lead.begin(Leader::Waiter);
    let places: Vec<_> = [Leader::Attendant, Leader::Waiter]
        .into_iter()
        .map(|role| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let me = thread::current();
                // How many have led by then.
                let found = || {
                    let state = shared.lead.lock();
                    (state.leading == Some(me.id())).then_some(state.takeovers)
                };
                shared.lead.wait_as(role, &shared, shared.clock.now() + LONG, found)
            })
        })
        .collect();
    let deadline = shared.clock.now() + LONG;
    while shared.lead.lock().waiters.is_empty() || shared.lead.lock().attendant.is_none() {
        assert!(shared.clock.now() < deadline, "they take no place");
        thread::yield_now();
    }
    drop(guard);
    shared.lead.leave(turn, &shared, shared.clock.now());
    let led: Vec<_> = places.into_iter().map(|place| place.join().unwrap()).collect();
    assert_eq!(led, [Some(3), Some(2)], "the attendant is last");
}

#[test]
fn whoever_waits_for_an_answer_makes_way_without_the_driver_and_nobody_else_does() {
    let (_driver, shared) = shared();
    let me = thread::current().id();
    for role in [Leader::Caller, Leader::Waiter, Leader::Attendant] {
        *shared.lead.courtesy() = Courtesy::owed_by(me);
        // A turn ends at once, and the look after it finds something.
        shared.wake_for_certain();
        let mut looks = 0;
        let look = || {
            looks += 1;
            (looks > 2).then_some(())
        };
        assert!(shared.lead.wait_as(role, &shared, shared.clock.now() + LONG, look).is_some());
        assert_eq!(shared.lead.courtesy().is_owed_by(me), role != Leader::Caller);
    }
}

#[test]
fn who_makes_way_without_having_found_what_it_waits_for_goes_on_waiting() {
    let (_driver, shared) = shared();
    *shared.lead.courtesy() = Courtesy::owed_by(thread::current().id());
    shared.wake_for_certain();
    let mut looks = 0;
    // Not after the turn for which it makes way: something else wakes it then.
    let look = || {
        looks += 1;
        shared.wake_for_certain();
        (looks > 5).then_some(())
    };
    assert!(shared.lead.wait_for_answer(&shared, shared.clock.now() + LONG, look).is_some());
}
