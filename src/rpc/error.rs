//! How a call ends when it does not end with a value.

use std::string::String;

use super::DecodeError;
use crate::pattern::{Failure, FailureKind, NotExecuted, Outcome, Received, Unknown};

/// Why a call has no value: what is known, and nothing more.
///
/// Beside the four ways in which a call can end without a value there are two local ones: arguments that could not be
/// encoded (nothing was sent) and a result that could not be decoded (it ran).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It ran, or was looked at, and the server says no.
    #[error("{}{}", describe(.0.kind), .0.text)]
    Failed(Failure),
    /// It certainly did not start: safe to send again.
    #[error("not executed: {0}")]
    NotExecuted(NotExecuted),
    /// It ran once, and the answer is gone.
    #[error("executed, but the result was not kept")]
    ResultNotKept,
    /// It may or may not have run: ask whoever would know, before you send it again.
    #[error("outcome unknown: {0}")]
    Unknown(Unknown),
    /// The arguments could not be encoded; nothing was sent.
    #[error("arguments cannot be encoded: {0}")]
    Unencodable(String),
    /// It ran, and its result is not of the type asked for.
    #[error("executed, but the result cannot be decoded: {0}")]
    BadResult(DecodeError),
}

impl CallError {
    /// Whether the function has run, or may have: then sending the call again may run it twice.
    pub fn may_have_run(&self) -> bool {
        match self {
            CallError::Failed(failure) => {
                !matches!(failure.kind, FailureKind::UnknownFunction | FailureKind::BadArguments)
            }
            CallError::NotExecuted(_) | CallError::Unencodable(_) => false,
            CallError::ResultNotKept | CallError::Unknown(_) | CallError::BadResult(_) => true,
        }
    }
}

fn describe(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Function => "",
        FailureKind::UnknownFunction => "unknown function ",
        FailureKind::BadArguments => "bad arguments: ",
        FailureKind::Panicked => "the function panicked: ",
        FailureKind::Dropped => "the function gave no answer",
    }
}

/// A call's end as a result: its value's bytes, or why there are none.
pub(crate) fn into_result(outcome: Outcome) -> Result<Received, CallError> {
    match outcome {
        Outcome::Value(bytes) => Ok(bytes),
        Outcome::Failed(failure) => Err(CallError::Failed(failure)),
        Outcome::NotExecuted(why) => Err(CallError::NotExecuted(why)),
        Outcome::ResultNotKept => Err(CallError::ResultNotKept),
        Outcome::Unknown(why) => Err(CallError::Unknown(why)),
    }
}
