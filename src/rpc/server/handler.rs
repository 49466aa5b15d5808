//! What the server's port has done with its news: each call is run where it is to run.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use crate::net::{Handler, Instant, Port};
use crate::pattern::{Refusal, Server, ServerEvent, Status, Ticket};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::function::{Functions, Place, RawResponder};
use crate::rpc::lane::{Lane, Refused};

/// Runs what is asked for, where it is to run.
pub(crate) struct ServerHandler {
    pub(super) functions: Arc<Functions>,
    pub(super) lanes: Vec<Lane<LaneJob>>,
    pub(super) on_client: Option<(Arc<OnClient>, Dispatcher)>,
    pub(super) slow_inline: AtomicU64,
    /// The buffer of the last arguments of an inline function.
    pub(super) inline_buffer: Mutex<Vec<u8>>,
}

impl ServerHandler {
    fn inline_buffer(&self) -> MutexGuard<'_, Vec<u8>> {
        self.inline_buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told of clients that join and leave.
pub(super) type OnClient = dyn Fn(&ServerEvent) + Send + Sync;

impl Handler for ServerHandler {
    type Machine = Server;
    type Job = ServerEvent;

    fn collect(&self, machine: &mut Server, jobs: &mut Vec<ServerEvent>) {
        while let Some(event) = machine.poll_event() {
            jobs.push(event);
        }
    }

    fn run(&self, port: &Arc<Port<Self>>, job: ServerEvent) {
        let work = match job {
            ServerEvent::Work(work) => work,
            event => {
                log::debug!("client: {event:?}");
                if let Some((on_client, dispatcher)) = &self.on_client {
                    let on_client = Arc::clone(on_client);
                    dispatcher.push_or_drop(Box::new(move || on_client(&event)));
                }
                return;
            }
        };
        let place = self.functions.get(&*work.function).map(|function| &function.place);
        match place {
            None => {
                let name = work.function.as_bytes();
                port.command_in_turn(|server| server.reply(work.ticket, Status::UnknownFunction, name));
            }
            Some(Place::Inline) => {
                let begun = port.now();
                let mut buffer = core::mem::take(&mut *self.inline_buffer());
                run_call(port, &self.functions, work.ticket, &work.function, Some(begun), &mut buffer);
                *self.inline_buffer() = buffer;
                let took = port.now().saturating_since(begun);
                if took > SLOW_INLINE {
                    self.slow_inline.fetch_add(1, Ordering::Relaxed);
                    log::warn!("inline-function-slow: {} took {took:?}", work.function);
                }
            }
            Some(Place::Lane(index)) => {
                let job = LaneJob { port: Arc::clone(port), ticket: work.ticket, function: work.function };
                match self.lanes[*index].push(job) {
                    Ok(()) => {}
                    // The lane is closed: the server is stopping.
                    Err(Refused::Closed(job)) => job.refuse(Refusal::ShuttingDown),
                    // It hangs, and what its callers have given up has filled it.
                    Err(Refused::Full(job)) => job.refuse(Refusal::Full),
                }
            }
        }
    }

    fn handle_over(&self) {
        if let Some((_, dispatcher)) = &self.on_client {
            dispatcher.stop_when_done();
        }
        *self.inline_buffer() = Vec::new();
    }

    fn is_over(&self, machine: &Server) -> bool {
        machine.is_stopping() && machine.is_empty()
    }
}

/// A call on its way through a lane.
pub(super) struct LaneJob {
    port: Arc<Port<ServerHandler>>,
    ticket: Ticket,
    function: Arc<str>,
}

impl LaneJob {
    /// Runs it. The buffer is that of the arguments before, and then of these.
    pub(super) fn run(self, functions: &Functions, buffer: &mut Vec<u8>) {
        run_call(&self.port, functions, self.ticket, &self.function, None, buffer);
    }

    /// Answers that it is not started.
    pub(super) fn refuse(self, why: Refusal) {
        let status = Status::NotExecuted(why);
        self.port.command(|server, _| server.reply(self.ticket, status, &[]));
    }
}

/// Runs one call, unless it has expired or been withdrawn while it waited. `in_turn`: the present moment, if this is in
/// the middle of a turn of the driver.
fn run_call(
    port: &Arc<Port<ServerHandler>>,
    functions: &Functions,
    ticket: Ticket,
    name: &str,
    in_turn: Option<Instant>,
    buffer: &mut Vec<u8>,
) {
    let last = core::mem::take(buffer);
    let start = |server: &mut Server, now| {
        server.give_back(last);
        server.start(now, ticket)
    };
    let arguments = match in_turn {
        Some(now) => port.command_in_turn(|server| start(server, now)),
        None => port.command(start),
    };
    let Ok(arguments) = arguments else { return };
    let Some(function) = functions.get(name) else { return };
    function.run(name, &arguments, RawResponder::new(port, ticket, in_turn.is_some()));
    if arguments.capacity() <= KEPT_BYTES {
        *buffer = arguments;
    }
}

/// A larger buffer of arguments is not kept for the next ones.
const KEPT_BYTES: usize = 64 * 1024;
/// An inline function that takes longer is warned of.
const SLOW_INLINE: Duration = Duration::from_millis(1);
