//! Functions by name and events by topic: [`RpcServer`] and [`RpcClient`].
//!
//! ```text
//! server: driver thread ---+--- inline functions              client: driver thread --- replies to their callers
//!         lane "main"      |    read, run, reply                      dispatcher thread (only with callbacks)
//!         lane "history"  -+                                          callers' own threads write and wait
//! ```
//!
//! Arguments, results and events are encoded with postcard, strictly: bytes that are left over are an error. The
//! threads are named `pulsewire-...`, and there are no others.

mod call;
mod client;
mod codec;
mod dispatcher;
mod error;
mod function;
mod lane;
mod method;
mod server;
mod subscription;

pub use call::{CallOptions, PendingCall};
pub use client::{ClientEvent, ClientStats, Connection, RpcClient, RpcClientBuilder};
pub use codec::DecodeError;
pub use error::CallError;
pub use function::{FunctionResult, Responder};
pub use method::{Method, MethodName, PublishTopic, Topic, TopicPath, TopicPrefix};
pub use server::{BindError, PublishFailed, RpcServer, RpcServerBuilder, RpcServerStats, Stream};
pub use subscription::{Event, Subscription, SubscriptionControl};

/// The words of the floors below that the signatures here are written in, so that who stands on this floor needs no
/// other.
#[doc(no_inline)]
pub use crate::net::{Address, AddressError, ToAddress};
#[doc(no_inline)]
pub use crate::pattern::{
    Cause, CloseReason, FailureKind, Limits, Lost, NotExecuted, PublishError, Published, PublisherStats,
    Reconnect, Retain, SlowPolicy, StreamOptions, SubscribeError, SubscribeOptions, Unknown,
};
