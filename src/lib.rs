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
pub mod pattern;
pub mod session;
pub mod time;
pub mod wire;
