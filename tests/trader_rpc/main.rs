//! The trading bridge from end to end: services and gateways over real sockets, with venues that do as they are told.
#![cfg(feature = "trader")]

mod again;
mod gateway;
mod loss;
mod orders;
mod service;
mod snapshot;
mod venue;
