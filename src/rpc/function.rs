//! Registered functions, and the responder through which each call is answered once.

use std::boxed::Box;
use std::collections::HashMap;
use std::error::Error;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::{String, ToString};
use std::sync::{Arc, Weak};
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::codec;
use super::lane::discard;
use super::server::ServerHandler;
use crate::net::Port;
use crate::pattern::{Status, Ticket, ANSWER_FRONT_BYTES};

/// What a registered function gives: its result, or an error whose text goes to the caller.
///
/// `?` works on any error, and `Err("no such symbol".into())` makes one of a text.
pub type FunctionResult<R> = Result<R, Box<dyn Error + Send + Sync>>;

/// Answers one call: now, later, or from another thread. Dropped without an answer, it says so to the caller.
#[derive(Debug)]
pub struct Responder<R> {
    raw: RawResponder,
    types: core::marker::PhantomData<fn(R)>,
}

impl<R: Serialize> Responder<R> {
    pub(crate) fn new(raw: RawResponder) -> Self {
        Responder { raw, types: core::marker::PhantomData }
    }

    /// Answers with a result. Returns whether the caller still waits.
    pub fn ok(mut self, result: &R) -> bool {
        match codec::encoded(result, 0, |buffer| self.raw.answer(Status::Ok, &buffer[codec::FRONT_BYTES..])) {
            Ok(waited_for) => waited_for,
            Err(error) => self.raw.answer(Status::Failed, cannot_encode(&error).as_bytes()),
        }
    }

    /// Answers with an error; its text goes to the caller. Returns whether the caller still waits.
    pub fn failed(mut self, error: impl core::fmt::Display) -> bool {
        self.raw.answer(Status::Failed, error.to_string().as_bytes())
    }
}

fn cannot_encode(error: &str) -> String {
    std::format!("the result cannot be encoded: {error}")
}

/// A responder for bytes.
pub(crate) struct RawResponder {
    /// Weak: functions may keep responders, and the port keeps the functions.
    port: Weak<Port<ServerHandler>>,
    ticket: Ticket,
    answered: bool,
}

impl core::fmt::Debug for RawResponder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Responder").field("ticket", &self.ticket).field("answered", &self.answered).finish()
    }
}

impl RawResponder {
    fn new(port: &Arc<Port<ServerHandler>>, ticket: Ticket) -> Self {
        RawResponder { port: Arc::downgrade(port), ticket, answered: false }
    }

    fn answer(&mut self, status: Status, payload: &[u8]) -> bool {
        self.answered = true;
        let Some(port) = self.port.upgrade() else { return false };
        port.command(|server, _| server.reply(self.ticket, status, payload))
    }
}

impl Drop for RawResponder {
    fn drop(&mut self) {
        if !self.answered {
            let status = if std::thread::panicking() { Status::Panicked } else { Status::Dropped };
            self.answer(status, &[]);
        }
    }
}

/// What is called with the arguments' bytes.
enum Body {
    /// Its answer is there when it returns: the status, and what goes with it in the buffer, behind the room that is all there
    /// is in it before.
    Returning(Box<Returning>),
    /// It answers when it likes.
    Deferred(Box<Deferred>),
}

type Returning = dyn Fn(&[u8], &mut Vec<u8>) -> Status + Send + Sync;
type Deferred = dyn Fn(&[u8], RawResponder) + Send + Sync;

/// Where a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where its request is read.
    Inline,
    /// In the lane with this index.
    Lane(usize),
}

pub(crate) struct Function {
    pub(crate) place: Place,
    body: Body,
}

impl Function {
    /// A function that gives its result when it returns.
    pub(crate) fn returning<A, R, F>(place: Place, f: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(A) -> FunctionResult<R> + Send + Sync + 'static,
    {
        Self::answering(place, move |bytes, answer| {
            let arguments = match codec::decode(bytes) {
                Ok(arguments) => arguments,
                Err(error) => return say(Status::BadArguments, &error, answer),
            };
            match f(arguments) {
                Ok(result) => match codec::encode_into(&result, answer) {
                    Ok(()) => Status::Ok,
                    Err(error) => say(Status::Failed, &cannot_encode(&error), answer),
                },
                Err(error) => say(Status::Failed, &error, answer),
            }
        })
    }

    /// A function that keeps its responder.
    pub(crate) fn deferred<A, R, F>(place: Place, f: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(A, Responder<R>) + Send + Sync + 'static,
    {
        let body = move |bytes: &[u8], mut raw: RawResponder| match codec::decode(bytes) {
            Ok(arguments) => f(arguments, Responder::new(raw)),
            Err(error) => {
                raw.answer(Status::BadArguments, error.to_string().as_bytes());
            }
        };
        Function { place, body: Body::Deferred(Box::new(body)) }
    }

    /// A function of bytes.
    pub(crate) fn of_bytes<F>(place: Place, f: F) -> Self
    where
        F: Fn(&[u8]) -> FunctionResult<Vec<u8>> + Send + Sync + 'static,
    {
        Self::answering(place, move |bytes, answer| match f(bytes) {
            Ok(result) => {
                answer.extend_from_slice(&result);
                Status::Ok
            }
            Err(error) => say(Status::Failed, &error, answer),
        })
    }

    fn answering(place: Place, f: impl Fn(&[u8], &mut Vec<u8>) -> Status + Send + Sync + 'static) -> Self {
        Function { place, body: Body::Returning(Box::new(f)) }
    }

    /// Its answer is there when it returns.
    pub(crate) fn is_returning(&self) -> bool {
        matches!(self.body, Body::Returning(_))
    }

    /// Runs it. What it answers when it returns is its status and, in `answer`, the bytes that go with it; `None`: it
    /// answers for itself. A panic ends here, as an answer.
    pub(crate) fn run(
        &self,
        name: &str,
        arguments: &[u8],
        port: &Arc<Port<ServerHandler>>,
        ticket: Ticket,
        answer: &mut Vec<u8>,
    ) -> Option<Status> {
        answer.resize(ANSWER_FRONT_BYTES, 0);
        let ran = catch_unwind(AssertUnwindSafe(|| match &self.body {
            Body::Returning(body) => Some(body(arguments, answer)),
            Body::Deferred(body) => {
                body(arguments, RawResponder::new(port, ticket));
                None
            }
        }));
        ran.unwrap_or_else(|panic| {
            discard(panic);
            log::warn!("function-panicked: {name}");
            // Whatever was in the middle of being encoded may have taken the buffer with it.
            answer.resize(ANSWER_FRONT_BYTES, 0);
            // The responder of one that answers for itself has told the caller when it was dropped.
            self.is_returning().then_some(Status::Panicked)
        })
    }
}

/// The answer is this text.
fn say(status: Status, text: &dyn core::fmt::Display, answer: &mut Vec<u8>) -> Status {
    // What could not be encoded has left anything there, or no buffer at all.
    answer.resize(ANSWER_FRONT_BYTES, 0);
    answer.extend_from_slice(text.to_string().as_bytes());
    status
}

/// Functions by name.
pub(crate) type Functions = HashMap<Box<str>, Function>;
