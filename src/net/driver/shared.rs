//! What a driver shares with the threads that command its ports: a clock, a mailbox, and how to wake it.

use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

use mio::Waker;

use crate::net::lead::Lead;
use crate::net::port::BoxedPort;
use crate::net::{Address, Clock};
use crate::time::Instant;

/// What a driver and the threads that command its ports share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    waker: Waker,
    /// The driver is up and looks at everything before it sleeps again.
    awake: AtomicBool,
    /// Until when the driver sleeps, in microseconds: 0 while it is up, the greatest number while it makes up its mind.
    sleeps_until: AtomicU64,
    mailbox: Mutex<Vec<Command>>,
    /// There is something in the mailbox. Written under its lock.
    has_mail: AtomicBool,
    /// It was called since a turn last began to look at everything.
    called: AtomicBool,
    /// Who turns the driver.
    pub(crate) lead: Lead,
}

impl Shared {
    pub(super) fn new(waker: Waker) -> Self {
        Shared {
            clock: Clock::new(),
            waker,
            awake: AtomicBool::new(false),
            sleeps_until: AtomicU64::new(u64::MAX),
            mailbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            called: AtomicBool::new(false),
            lead: Lead::default(),
        }
    }

    /// Sees to it that the driver looks at its mailbox and its ports.
    pub(crate) fn wake(&self) {
        self.called.store(true, Ordering::SeqCst);
        // What a port was touched for comes before this, and the driver's look at it after its own fence.
        fence(Ordering::SeqCst);
        if !self.awake.swap(true, Ordering::SeqCst) {
            // A driver that is gone has nothing to look at.
            let _ = self.waker.wake();
        }
        self.lead.see_to_it();
    }

    /// Whether there is something that no turn has looked at.
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::SeqCst)
    }

    /// Wakes the driver for something that it looks at between its turns and not within them: it may be past that
    /// look and still up.
    pub(crate) fn wake_for_certain(&self) {
        // As above.
        let _ = self.waker.wake();
    }

    /// Wakes the driver if it would sleep past this moment.
    pub(crate) fn wake_before(&self, due: Instant) {
        fence(Ordering::SeqCst);
        if due.as_micros() < self.sleeps_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(crate) fn send(&self, command: Command) {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        mailbox.push(command);
        self.has_mail.store(true, Ordering::Relaxed);
        drop(mailbox);
        self.wake();
    }

    // The driver's side.

    /// What is put in from here on wakes it; until when it sleeps is still open.
    pub(super) fn lie_down(&self) {
        self.sleeps_until.store(u64::MAX, Ordering::Release);
        self.awake.store(false, Ordering::Release);
        self.called.store(false, Ordering::Release);
        // Whoever finds the driver up has passed a fence before this one, and what he did before is seen after it.
        fence(Ordering::SeqCst);
    }

    pub(super) fn sleep_until(&self, until: Instant) {
        self.sleeps_until.store(until.as_micros(), Ordering::SeqCst);
    }

    pub(super) fn get_up(&self) {
        self.awake.store(true, Ordering::Release);
        self.sleeps_until.store(0, Ordering::Release);
    }

    pub(super) fn take_mail(&self) -> Vec<Command> {
        if !self.has_mail.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_mail.store(false, Ordering::Relaxed);
        core::mem::take(&mut *mailbox)
    }
}

/// What is put into a driver's mailbox.
pub(crate) enum Command {
    /// Drive one more port, which dials these addresses.
    Add(BoxedPort, Vec<Address>),
}
