//! What the server's port has done with its news: each call is run where it is to run.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use crate::net::{Handler, Instant, Port};
use crate::pattern::{Limits, Received, Refusal, Server, ServerEvent, Status, Ticket, Work};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::function::{Function, Functions, Place};
use crate::rpc::lane::{Lane, Refused};

/// Runs what is asked for, where it is to run.
pub(crate) struct ServerHandler {
    pub(super) functions: Arc<Functions>,
    pub(super) lanes: Vec<Lane<LaneJob>>,
    pub(super) on_client: Option<(Arc<OnClient>, Dispatcher)>,
    pub(super) slow_inline: AtomicU64,
    /// The buffers of the last inline function.
    pub(super) inline_buffers: Mutex<CallBuffers>,
}

/// The buffers of the last call that was run in a place, for the next one.
#[derive(Debug, Default)]
pub(super) struct CallBuffers {
    arguments: Received,
    /// Behind [`ANSWER_FRONT_BYTES`] of room, while there is an answer.
    answer: Vec<u8>,
}

impl CallBuffers {
    /// Lets go of what is too large to be kept here. What was large and is over is with the server by then.
    fn trim(&mut self) {
        if self.arguments.buffer().capacity() > Limits::KEPT_BY_LANE_BYTES {
            self.arguments = Received::default();
        }
        if self.answer.capacity() > Limits::KEPT_BY_LANE_BYTES {
            self.answer = Vec::new();
        }
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

    fn run(&self, port: &Arc<Port<Self>>, jobs: &mut Vec<ServerEvent>) {
        let mut inline = Inline::new(self, port);
        for event in jobs.drain(..) {
            match event {
                ServerEvent::Work(work) => self.begin(&mut inline, work),
                event => {
                    inline.note_end();
                    self.tell(event);
                }
            }
        }
        inline.note_end();
    }

    fn handle_over(&self) {
        if let Some((_, dispatcher)) = &self.on_client {
            dispatcher.stop_when_done();
        }
        *self.inline_buffers() = CallBuffers::default();
    }

    fn is_over(&self, machine: &Server) -> bool {
        machine.is_stopping() && machine.is_empty()
    }
}

impl ServerHandler {
    fn inline_buffers(&self) -> MutexGuard<'_, CallBuffers> {
        self.inline_buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: ServerEvent) {
        log::debug!("client: {event:?}");
        if let Some((on_client, dispatcher)) = &self.on_client {
            let on_client = Arc::clone(on_client);
            dispatcher.push_or_drop(Box::new(move || on_client(&event)));
        }
    }

    /// Runs a call, or has it run, where it is to run.
    fn begin(&self, inline: &mut Inline<'_>, work: Work) {
        let Some(function) = inline.find(&work.function) else {
            return inline.refuse(work.ticket, Status::UnknownFunction, work.function.as_bytes());
        };
        let Place::Lane(index) = function.place else { return inline.run(function, work) };
        inline.note_end();
        let port = Arc::clone(inline.port);
        let job = LaneJob { port, ticket: work.ticket, function: work.function };
        match self.lanes[index].push(job) {
            Ok(()) => {}
            // The lane is closed: the server is stopping.
            Err(Refused::Closed(job)) => job.refuse(Refusal::ShuttingDown),
            // It hangs, and what its callers have given up has filled it.
            Err(Refused::Full(job)) => job.refuse(Refusal::Full),
        }
    }
}

/// The inline calls of one read, run one after the other in the middle of a turn. The answer of each is entered when the
/// next one is started, or at the end, so that the machine is locked once for each; all are written at the end of the
/// turn.
struct Inline<'a> {
    handler: &'a ServerHandler,
    port: &'a Arc<Port<ServerHandler>>,
    buffers: CallBuffers,
    /// The call that ran last, whose answer is not entered yet; the bytes that go with it are in the buffer.
    last: Option<(Work, Status)>,
    /// When it was started, until somebody has looked at how long it took.
    begun: Option<Instant>,
    /// The machine was given commands and has not been asked what it has to say since.
    is_quiet: bool,
    /// The function that was asked for last, and what it is called by.
    found: Option<(Arc<str>, &'a Function)>,
}

impl<'a> Inline<'a> {
    fn new(handler: &'a ServerHandler, port: &'a Arc<Port<ServerHandler>>) -> Self {
        let buffers = core::mem::take(&mut *handler.inline_buffers());
        Inline { handler, port, buffers, last: None, begun: None, is_quiet: false, found: None }
    }

    /// The function of this name. The same one comes again and again, and its name is kept once.
    fn find(&mut self, name: &Arc<str>) -> Option<&'a Function> {
        match &self.found {
            Some((last, function)) if Arc::ptr_eq(last, name) => Some(function),
            _ => {
                let function = self.handler.functions.get(&**name)?;
                self.found = Some((Arc::clone(name), function));
                Some(function)
            }
        }
    }

    /// Runs a call, unless it has expired or been withdrawn.
    fn run(&mut self, function: &Function, work: Work) {
        let begun = self.port.now();
        self.note_end_at(begun);
        let started = self.enter_then(|server, answer| {
            let started = server.start(begun, work.ticket);
            if started.is_ok() && function.is_returning() {
                server.lend_for_answer(answer);
            }
            started
        });
        let Ok(arguments) = started else { return };
        let answer = &mut self.buffers.answer;
        let status = function.run(&work.function, &arguments, self.port, work.ticket, answer);
        self.buffers.arguments = arguments;
        match status {
            Some(status) => (self.last, self.begun) = (Some((work, status)), Some(begun)),
            // It answers when it likes, and has returned from here.
            None => self.note_time(&work.function, self.port.now().saturating_since(begun)),
        }
    }

    /// Gives a call that is not run its answer.
    fn refuse(&mut self, ticket: Ticket, status: Status, text: &[u8]) {
        self.enter_then(|server, _| server.reply(ticket, status, text));
    }

    /// Enters the answer of the last call, and gives the machine one more command, with the buffer of answers.
    fn enter_then<T>(&mut self, command: impl FnOnce(&mut Server, &mut Vec<u8>) -> T) -> T {
        self.is_quiet = true;
        let (last, buffers) = (self.last.take(), &mut self.buffers);
        self.port.command_quietly(|server| {
            if let Some((work, status)) = last {
                server.reply_in_place(work.ticket, status, &mut buffers.answer);
            }
            server.give_back(core::mem::take(&mut buffers.arguments));
            command(server, &mut buffers.answer)
        })
    }

    /// The last call has returned, and what comes now is no work of its.
    fn note_end(&mut self) {
        if self.begun.is_some() {
            self.note_end_at(self.port.now());
        }
    }

    fn note_end_at(&mut self, now: Instant) {
        if let (Some(begun), Some((work, _))) = (self.begun.take(), &self.last) {
            self.note_time(&work.function, now.saturating_since(begun));
        }
    }

    fn note_time(&self, function: &str, took: Duration) {
        if took > SLOW_INLINE {
            self.handler.slow_inline.fetch_add(1, Ordering::Relaxed);
            log::warn!("inline-function-slow: {function} took {took:?}");
        }
    }
}

impl Drop for Inline<'_> {
    /// Also when something panics, such as a log's sink: whoever ran has its answer.
    fn drop(&mut self) {
        if self.last.is_some() {
            self.enter_then(|_, _| ());
        }
        if self.is_quiet {
            self.port.command_in_turn(|_| ());
        }
        self.buffers.trim();
        *self.handler.inline_buffers() = core::mem::take(&mut self.buffers);
    }
}

/// A call on its way through a lane.
pub(super) struct LaneJob {
    port: Arc<Port<ServerHandler>>,
    ticket: Ticket,
    function: Arc<str>,
}

impl LaneJob {
    /// Runs it, unless it has expired or been withdrawn while it waited. The buffers are those of the call before.
    pub(super) fn run(self, functions: &Functions, buffers: &mut CallBuffers) {
        let (port, ticket) = (&self.port, self.ticket);
        let function = functions.get(&*self.function);
        let last = core::mem::take(&mut buffers.arguments);
        let started = port.command(|server, now| {
            server.give_back(last);
            let started = server.start(now, ticket);
            if started.is_ok() && function.is_some_and(Function::is_returning) {
                server.lend_for_answer(&mut buffers.answer);
            }
            started
        });
        let (Ok(arguments), Some(function)) = (started, function) else { return };
        let status = function.run(&self.function, &arguments, port, ticket, &mut buffers.answer);
        match status {
            Some(status) => {
                port.command(|server, _| {
                    server.give_back(arguments);
                    server.reply_in_place(ticket, status, &mut buffers.answer);
                });
            }
            None => buffers.arguments = arguments,
        }
        buffers.trim();
    }

    /// Answers that it is not started.
    pub(super) fn refuse(self, why: Refusal) {
        let status = Status::NotExecuted(why);
        self.port.command(|server, _| server.reply(self.ticket, status, &[]));
    }
}

/// An inline function that takes longer is warned of.
const SLOW_INLINE: Duration = Duration::from_millis(1);
