//! What is known when a request to a gateway did not simply succeed.

use std::string::String;

use serde::{Deserialize, Serialize};

use crate::trader::{InvalidRequest, PutError, SettingError};

/// Why something was certainly not done. It may be asked for again.
// The order of the variants is their number on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// No gateway has this name.
    #[error("there is no gateway named {0:?}")]
    NoSuchGateway(String),
    /// The gateway is not connected to where it trades.
    #[error("the gateway is not connected")]
    NotConnected,
    /// The gateway does not offer this at all.
    #[error("the gateway does not support this")]
    NotSupported,
    /// The gateway knows no contract of this `vt_symbol`.
    #[error("unknown contract {0:?}")]
    UnknownContract(String),
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(InvalidRequest),
    /// The setting makes no sense, and why.
    #[error("bad setting: {0}")]
    BadSetting(String),
    /// The exchange, the broker or the gateway says no, in its own words.
    #[error("rejected: {0}")]
    Rejected(String),
    /// It was never sent on, and why.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The main engine has been closed.
    #[error("the main engine is closed")]
    Closed,
}

impl From<InvalidRequest> for Refusal {
    fn from(why: InvalidRequest) -> Self {
        Refusal::Invalid(why)
    }
}

impl From<SettingError> for Refusal {
    fn from(why: SettingError) -> Self {
        Refusal::BadSetting(std::format!("{why}"))
    }
}

impl From<PutError> for Refusal {
    /// The event that would have told of it was not taken.
    fn from(why: PutError) -> Self {
        Refusal::NotSent(std::format!("{why}"))
    }
}

/// Why an order, a quote or a cancel has no plain success, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SendError {
    /// It was certainly not placed, and never will be. It may be sent again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It may or may not have been placed. Sending it again may place it twice.
    #[error(transparent)]
    Unknown(#[from] OutcomeUnknown),
}

impl SendError {
    /// Whether it is in the market, or may be: then do not send it again, and find out first.
    pub fn may_be_placed(&self) -> bool {
        matches!(self, SendError::Unknown(_))
    }
}

/// A request whose outcome is not known, and how it will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("outcome unknown ({why}), {resolution}")]
pub struct OutcomeUnknown {
    /// What happened instead of an answer.
    pub why: String,
    /// What to do.
    pub resolution: Resolution,
}

/// What to do about an unknown outcome.
// The order of the variants is their number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resolution {
    /// Wait: the gateway finds out by itself and puts the order's events if it was placed. An order of one's own is
    /// found by its `reference`.
    #[error("the gateway will report the order if it was placed")]
    AwaitEvents,
    /// Ask the exchange or the broker by other means: the gateway cannot find out.
    #[error("ask the exchange or the broker")]
    AskVenue,
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn only_an_unknown_outcome_may_be_placed() {
        let refused = SendError::from(Refusal::NotConnected);
        let why = String::from("connection lost");
        let unknown = SendError::from(OutcomeUnknown { why, resolution: Resolution::AwaitEvents });
        assert!(!refused.may_be_placed() && unknown.may_be_placed());
        assert_eq!(refused.to_string(), "the gateway is not connected");
        let text = "outcome unknown (connection lost), the gateway will report the order if it was placed";
        assert_eq!(unknown.to_string(), text);
        for error in [refused, unknown] {
            let bytes = postcard::to_allocvec(&error).unwrap();
            assert_eq!(postcard::from_bytes::<SendError>(&bytes), Ok(error));
        }
    }
}
