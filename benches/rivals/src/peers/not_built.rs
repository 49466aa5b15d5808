//! Stands in for a library that this build is without, so that nothing else has to know which ones are there.

use std::time::Duration;

use super::{Caller, Peer, Sink};
use crate::Result;

const WHY: &str = "this library was not built";

pub fn serve_calls() -> Result<u16> {
    Err(WHY.into())
}

pub fn callers(_port: u16, _count: usize) -> Result<Vec<Box<dyn Caller>>> {
    Err(WHY.into())
}

/// Cannot be made.
pub enum Publisher {}

impl super::Publisher for Publisher {
    fn bind(_peer: Peer) -> Result<Self> {
        Err(WHY.into())
    }

    fn port(&self) -> u16 {
        match *self {}
    }

    fn wait_for(&mut self, _subscriptions: usize) -> Result<()> {
        match *self {}
    }

    fn publish(&mut self, _topic: &str, _data: &[u8]) -> Result<()> {
        match *self {}
    }

    fn flush(&mut self) -> Result<()> {
        match *self {}
    }

    fn rest(&mut self, _length: Duration) -> Result<()> {
        match *self {}
    }
}

/// Cannot be made.
pub enum Subscriber {}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, _port: u16, _sets: &[Vec<String>], _crowd: &[Vec<String>]) -> Result<Self> {
        Err(WHY.into())
    }

    fn receive<S: Sink>(self, _sinks: Vec<S>) -> Result<Vec<S>> {
        match self {}
    }
}
