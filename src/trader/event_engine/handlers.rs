//! Who wants to hear of which events.

use std::any::Any;
use std::boxed::Box;
use std::collections::HashMap;
use std::mem;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::String;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::trader::Event;

/// Names a registration, to end it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(u64);

type Function = dyn FnMut(&Event) + Send;
/// Shared with the engine's thread while it works through it: changed by copy then.
type List = Arc<Vec<Arc<Handler>>>;

struct Handler {
    id: HandlerId,
    /// Cleared when it is unregistered, so that a list already under way skips it.
    is_registered: AtomicBool,
    /// Taken by the engine's thread alone, so never waited for.
    function: Mutex<Box<Function>>,
}

/// All handlers, and what became of their calls.
#[derive(Default)]
pub(super) struct Handlers {
    registry: Mutex<Registry>,
    panics: AtomicU64,
}

#[derive(Default)]
struct Registry {
    by_type: HashMap<String, List>,
    /// Those who want everything.
    general: List,
    last_id: u64,
}

impl Handlers {
    /// Adds a handler behind the others of its type, or of those who want everything.
    pub(super) fn add(&self, event_type: Option<String>, function: Box<Function>) -> HandlerId {
        let mut registry = self.lock();
        registry.last_id += 1;
        let id = HandlerId(registry.last_id);
        let list = match event_type {
            Some(event_type) => registry.by_type.entry(event_type).or_default(),
            None => &mut registry.general,
        };
        let is_registered = AtomicBool::new(true);
        Arc::make_mut(list).push(Arc::new(Handler { id, is_registered, function: Mutex::new(function) }));
        id
    }

    /// Ends a registration. Says whether there was one.
    pub(super) fn remove(&self, id: HandlerId) -> bool {
        let mut registry = self.lock();
        let lists = registry.by_type.values().chain([&registry.general]);
        let found = lists.flat_map(|list| list.iter()).find(|handler| handler.id == id).cloned();
        let Some(handler) = found else { return false };
        handler.is_registered.store(false, Ordering::SeqCst);
        let without = |list: &mut List| Arc::make_mut(list).retain(|other| other.id != id);
        registry
            .by_type
            .values_mut()
            .filter(|list| list.iter().any(|other| other.id == id))
            .for_each(without);
        without(&mut registry.general);
        registry.by_type.retain(|_, list| !list.is_empty());
        drop(registry);
        drop(handler); // It is the user's, and drops what is the user's: not under the lock.
        true
    }

    /// Calls all who want this event: those of its general type, those of its specific type, those of everything.
    ///
    /// `scratch` is overwritten.
    pub(super) fn dispatch(&self, event: &Event, scratch: &mut String) {
        scratch.clear();
        event.write_specific_type(scratch).expect("strings take all that is written");
        let general_type = event.general_type();
        let registry = self.lock();
        let of_type = registry.by_type.get(general_type).cloned();
        let of_specific = (scratch != general_type).then(|| registry.by_type.get(&**scratch).cloned());
        let lists = [of_type, of_specific.flatten(), Some(Arc::clone(&registry.general))];
        drop(registry);
        for handler in lists.iter().flatten().flat_map(|list| list.iter()) {
            self.call(handler, event, scratch);
        }
        // The last hold on a handler that has been unregistered meanwhile may be ours.
        self.guard(scratch, move || drop(lists));
    }

    /// Calls that ended in a panic.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    fn call(&self, handler: &Handler, event: &Event, event_type: &str) {
        if !handler.is_registered.load(Ordering::SeqCst) {
            return;
        }
        self.guard(event_type, || {
            let mut function = handler.function.lock().unwrap_or_else(PoisonError::into_inner);
            function(event);
        });
    }

    /// Runs what is the user's. A panic ends here.
    pub(super) fn guard(&self, event_type: &str, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            discard(panic);
            self.panics.fetch_add(1, Ordering::Relaxed);
            log::warn!("handler-panicked: {event_type}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what somebody panicked with, which may panic once more; what comes of that is left alone.
pub(in crate::trader) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(second);
    }
}
