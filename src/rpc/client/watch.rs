//! The whole of a client's connections: who is told when it is lost, and when it is back.

use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::vec::Vec;

use super::source::CallbackSource;
use crate::net;
use crate::pattern::ConnectionEvent;
use crate::rpc::dispatcher::Dispatcher;

/// Which connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Connection {
    /// The one that calls travel on.
    Calls,
    /// That of a subscription, counted from 1.
    Subscription(u64),
}

/// Something that happened to one of a client's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    /// Which one.
    pub connection: Connection,
    /// What.
    pub event: ConnectionEvent,
}

/// The connections of a client together: the whole is up when all of them are.
pub(super) struct Whole {
    callbacks: Arc<Callbacks>,
    state: Mutex<WholeState>,
    /// What reads the subscriptions that have callbacks.
    sources: Mutex<Vec<Arc<CallbackSource>>>,
}

#[derive(Default)]
struct WholeState {
    up: Vec<(Connection, bool)>,
    /// `on_disconnected` was called and `on_reconnected` was not yet.
    told_down: bool,
    was_up: bool,
    stopped: bool,
}

impl Whole {
    pub(super) fn new(callbacks: Arc<Callbacks>) -> Self {
        Whole { callbacks, state: Mutex::new(WholeState::default()), sources: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, WholeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Arc<CallbackSource>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, source: Arc<CallbackSource>) {
        self.sources().push(source);
    }

    pub(super) fn take_sources(&self) -> Vec<Arc<CallbackSource>> {
        core::mem::take(&mut *self.sources())
    }
}

/// One connection's part in the whole.
pub(super) struct Watch {
    connection: Connection,
    whole: Arc<Whole>,
}

impl Watch {
    pub(super) fn join(connection: Connection, whole: Arc<Whole>) -> Self {
        whole.lock().up.push((connection, false));
        Watch { connection, whole }
    }

    pub(super) fn left(&self) {
        let mut whole = self.whole.lock();
        whole.up.retain(|(connection, _)| *connection != self.connection);
        // It may have been the last one that was missing.
        let back =
            whole.told_down && !whole.stopped && !whole.up.is_empty() && whole.up.iter().all(|(_, up)| *up);
        whole.told_down &= !back;
        drop(whole);
        self.tell(None, false, back);
    }

    pub(super) fn log(&self, event: &ConnectionEvent) {
        log::debug!("connection {:?}: {event:?}", self.connection);
    }

    pub(super) fn handle_event(&self, event: &ConnectionEvent) {
        let mut whole = self.whole.lock();
        let mut up = match event {
            ConnectionEvent::Connected { .. } => Some(true),
            ConnectionEvent::Disconnected { .. } => Some(false),
            _ => None,
        };
        match (up, whole.up.iter_mut().find(|(connection, _)| *connection == self.connection)) {
            (Some(up), Some(entry)) => entry.1 = up,
            // It has left the whole: what happens to it is no change of it any more.
            (_, None) => up = None,
            (None, Some(_)) => {}
        }
        let all_up = whole.up.iter().all(|(_, up)| *up);
        let lost = up == Some(false) && whole.was_up && !whole.told_down && !whole.stopped;
        let back = up == Some(true) && all_up && whole.told_down;
        whole.was_up |= all_up;
        whole.told_down = (whole.told_down || lost) && !back;
        drop(whole);
        self.tell(Some(event), lost, back);
    }

    /// Has the callbacks called that these concern.
    fn tell(&self, event: Option<&ConnectionEvent>, lost: bool, back: bool) {
        let callbacks = &self.whole.callbacks;
        let Some(dispatcher) = callbacks.dispatcher.get().filter(|_| !callbacks.is_empty()) else { return };
        let event = event.map(|event| ClientEvent { connection: self.connection, event: event.clone() });
        let callbacks = Arc::clone(callbacks);
        dispatcher.push(Box::new(move || {
            if let (Some(on_connection), Some(event)) = (&callbacks.on_connection, &event) {
                on_connection(event);
            }
            if let Some(on_disconnected) = callbacks.on_disconnected.as_ref().filter(|_| lost) {
                on_disconnected();
            }
            if let Some(on_reconnected) = callbacks.on_reconnected.as_ref().filter(|_| back) {
                on_reconnected();
            }
        }));
    }
}

type OnEvent = Box<dyn Fn(&ClientEvent) + Send + Sync>;
type OnChange = Box<dyn Fn() + Send + Sync>;

/// What the user wants to be told, and the thread that tells it.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) on_connection: Option<OnEvent>,
    pub(super) on_disconnected: Option<OnChange>,
    pub(super) on_reconnected: Option<OnChange>,
    pub(super) dispatcher: OnceLock<Dispatcher>,
}

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.on_connection.is_none() && self.on_disconnected.is_none() && self.on_reconnected.is_none()
    }

    /// The thread that callbacks run on waits for what this driver brings, unless the whole that it drives is stopped.
    pub(super) fn attend(&self, driver: &Arc<net::Shared>, whole: &Whole) -> bool {
        self.dispatcher.get().is_some_and(|dispatcher| dispatcher.attend(driver, || whole.is_stopped()))
    }

    /// This driver comes to its end.
    pub(super) fn leave(&self, driver: &Arc<net::Shared>) {
        self.dispatcher.get().into_iter().for_each(|dispatcher| dispatcher.leave(driver));
    }

    /// The thread that callbacks run on is there from here on.
    pub(super) fn start(&self) -> Result<(), net::Error> {
        if self.dispatcher.get().is_none() {
            let started = Dispatcher::start().map_err(net::Error::Setup)?;
            // Somebody else may have been quicker.
            self.dispatcher.get_or_init(|| started);
        }
        Ok(())
    }
}
