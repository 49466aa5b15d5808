//! What the server's port has done with its news: each call is run where it is to run.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use crate::net::{Handler, Pace, Port};
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
                    dispatcher.push(Box::new(move || on_client(&event)));
                }
                return;
            }
        };
        let place = self.functions.get(&work.function).map(|function| &function.place);
        match place {
            None => {
                let name = work.function.as_bytes();
                port.command_at(Pace::InTurn, |server, _| {
                    server.reply(work.ticket, Status::UnknownFunction, name)
                });
            }
            Some(Place::Inline) => {
                let begun = port.now();
                run_call(port, &self.functions, work.ticket, &work.function, true);
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

    fn is_over(&self, machine: &Server) -> bool {
        machine.is_stopping() && machine.is_empty()
    }
}

/// A call on its way through a lane.
pub(super) struct LaneJob {
    port: Arc<Port<ServerHandler>>,
    ticket: Ticket,
    function: Box<str>,
}

impl LaneJob {
    pub(super) fn run(self, functions: &Functions) {
        run_call(&self.port, functions, self.ticket, &self.function, false);
    }

    /// Answers that it is not started.
    pub(super) fn refuse(self, why: Refusal) {
        let status = Status::NotExecuted(why);
        self.port.command(|server, _| server.reply(self.ticket, status, &[]));
    }
}

/// Runs one call, unless it has expired or been withdrawn while it waited.
fn run_call(
    port: &Arc<Port<ServerHandler>>,
    functions: &Functions,
    ticket: Ticket,
    name: &str,
    in_turn: bool,
) {
    let arguments = match in_turn {
        true => port.command_at(Pace::InTurn, |server, now| server.start(now, ticket)),
        false => port.command(|server, now| server.start(now, ticket)),
    };
    let Ok(arguments) = arguments else { return };
    let Some(function) = functions.get(name) else { return };
    function.run(name, &arguments, RawResponder::new(port, ticket, in_turn));
}

/// An inline function that takes longer is warned of.
const SLOW_INLINE: Duration = Duration::from_millis(1);
