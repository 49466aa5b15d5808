//! Why the exchange says no.

use std::string::{String, ToString};

use super::MAX_REFERENCE_BYTES;
use crate::trader::{Offset, OrderType, Refusal, Status};

/// Why an order, or a cancel, changes nothing. Its text is what the client reads.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Reject {
    #[error("an order buys (LONG) or sells (SHORT)")]
    NoSide,
    #[error("orders of type {0} are not taken, only LIMIT, MARKET, FAK and FOK")]
    OrderType(OrderType),
    #[error("the position is net: orders have no offset, this one says {0}")]
    NetPosition(Offset),
    #[error("long and short are held apart: the order has to say whether it opens or closes")]
    OffsetMissing,
    #[error("nothing is held from yesterday")]
    NothingOfYesterday,
    #[error("the volume {volume} is not a multiple of {step}")]
    VolumeStep { volume: f64, step: f64 },
    #[error("the volume {volume} is above the limit of {limit}")]
    VolumeLimit { volume: f64, limit: f64 },
    #[error("the price {price} is not a multiple of {step}")]
    PriceStep { price: f64, step: f64 },
    #[error("the price {price} is above today's limit of {limit}")]
    AboveLimit { price: f64, limit: f64 },
    #[error("the price {price} is below today's limit of {limit}")]
    BelowLimit { price: f64, limit: f64 },
    #[error("the reference {reference:?} is that of order {order}")]
    DuplicateReference { reference: String, order: u64 },
    #[error("the reference has {len} bytes, {MAX_REFERENCE_BYTES} are allowed")]
    LongReference { len: usize },
    #[error("{volume} cannot be closed: {free} are held and not bound by other orders")]
    NotHeld { volume: f64, free: f64 },
    #[error(
        "volume {volume} is too much beside what is held and what rests: it could not be counted exactly"
    )]
    TooMuch { volume: f64 },
    #[error("the order needs {needed}, {available} are available")]
    Means { needed: f64, available: f64 },
    #[error("the ledger is full")]
    LedgerFull,
    #[error("there is no order {0:?}")]
    NoSuchOrder(String),
    #[error("order {order} is one of {contract}")]
    OtherContract { order: u64, contract: String },
    #[error("order {order} is finished: {status}")]
    Finished { order: u64, status: Status },
}

impl From<Reject> for Refusal {
    fn from(why: Reject) -> Self {
        Refusal::Rejected(why.to_string())
    }
}
