//! What a target without atomic numbers of 64 bits has in the place of one: a gate that is always shut.

use core::sync::atomic::Ordering;

use super::SHUT;

#[derive(Debug)]
pub(super) struct Number;

impl Number {
    pub(super) fn new(_: u64) -> Self {
        Number
    }

    pub(super) fn load(&self, _: Ordering) -> u64 {
        SHUT
    }

    pub(super) fn compare_exchange(&self, _: u64, _: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        Err(SHUT)
    }

    pub(super) fn fetch_add(&self, _: u64, _: Ordering) -> u64 {
        unreachable!("it is never open")
    }

    pub(super) fn swap(&self, _: u64, _: Ordering) -> u64 {
        unreachable!("it is never open")
    }

    pub(super) fn store(&self, _: u64, _: Ordering) {}
}
