//! pulsewire: request/reply and publish/subscribe over raw TCP.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "std")]
pub mod net;
pub mod pattern;
#[cfg(feature = "std")]
pub mod rpc;
pub mod session;
pub mod time;
pub mod wire;

#[cfg(feature = "std")]
pub use net::{Address, AddressError, Keepalive, ToAddress};
pub use pattern::{
    Cause, CloseReason, ConnectionEvent, DialError, Done, Failure, FailureKind, Limits, LimitsError, Lost,
    NotExecuted, Outcome, PublishError, Published, Reconnect, Status, SubscribeError, Unknown,
};
#[cfg(feature = "std")]
pub use rpc::{
    BindError, CallError, CallOptions, ClientEvent, Event, FunctionResult, Method, PendingCall,
    PublishFailed, Responder, RpcClient, RpcServer, Subscription, Topic,
};
