//! What a ledger is made of: the terms, then one entry for each thing that happened.

use std::string::String;
use std::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::trader::{Direction, Offset, OrderType, Timestamp};

/// What an account began with and what its trades cost: the first line of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The ledger's format: 1.
    pub version: u32,
    /// The balance before the first trade, in money.
    pub balance: f64,
    /// What of a position's or an opening order's value is frozen: 1 is all of it.
    pub margin_rate: f64,
    /// What of each trade's value is taken as a fee: 0.0001 is one in ten thousand.
    pub fee_rate: f64,
}

/// What one request, or one tick, has done: one line of a ledger, there whole or not at all.
///
/// All that happens to an order is in entries: it is placed in one, trades in that or in later ones, and is cancelled in
/// at most one. An order whose fills add up to its volume has traded to the end; one that is neither that nor cancelled
/// rests in the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Counts from 1, without a gap.
    pub number: u64,
    /// The order that was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<PlacedOrder>,
    /// What has traded, in this order. A trade between two orders is two fills, one for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fills: Vec<Fill>,
    /// The orders of which the rest was taken out of the book, or never entered it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<u64>,
}

/// An order that was placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacedOrder {
    /// Its id; orders count from 1.
    pub order: u64,
    /// The contract: `symbol.EXCHANGE`.
    pub contract: String,
    /// Buy or sell.
    #[serde(with = "name")]
    pub direction: Direction,
    /// How it trades.
    #[serde(with = "name")]
    pub order_type: OrderType,
    /// Whether it opens or closes.
    #[serde(with = "name")]
    pub offset: Offset,
    /// The limit; 0 for an order at the market.
    pub price: f64,
    /// How much, in lots.
    pub volume: f64,
    /// Whose it is, in its sender's words.
    pub reference: String,
    /// The market's time, in nanoseconds since 1970; none before its first tick.
    pub at_ns: Option<Timestamp>,
}

/// A trade, seen from one order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Its id; trades count from 1.
    pub trade: u64,
    /// The order that traded.
    pub order: u64,
    /// The price.
    pub price: f64,
    /// How much, in lots.
    pub volume: f64,
    /// The market's time, in nanoseconds since 1970; none before its first tick.
    pub at_ns: Option<Timestamp>,
}

/// Enums by their names, so that a ledger can be read without a table.
mod name {
    use core::fmt::Display;
    use core::str::FromStr;
    use std::string::String;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'a, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'a>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_one_line_that_people_can_read() {
        let placed = PlacedOrder {
            order: 7,
            contract: "rb2410.SHFE".into(),
            direction: Direction::Short,
            order_type: OrderType::Fak,
            offset: Offset::CloseToday,
            price: 3_500.5,
            volume: 2.0,
            reference: "line\nbreak".into(),
            at_ns: Some(Timestamp::from_nanos(5)),
        };
        let fill = Fill { trade: 3, order: 7, price: 3_501.0, volume: 1.0, at_ns: None };
        let entry =
            LedgerEntry { number: 9, placed: Some(placed), fills: [fill].into(), cancelled: [7].into() };
        let line = serde_json::to_string(&entry).unwrap();
        let expected = concat!(
            r#"{"number":9,"placed":{"order":7,"contract":"rb2410.SHFE","direction":"SHORT","order_type":"FAK","#,
            r#""offset":"CLOSETODAY","price":3500.5,"volume":2.0,"reference":"line\nbreak","at_ns":5},"#,
            r#""fills":[{"trade":3,"order":7,"price":3501.0,"volume":1.0,"at_ns":null}],"cancelled":[7]}"#,
        );
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<LedgerEntry>(&line).unwrap(), entry);
        let cancel = LedgerEntry { number: 1, placed: None, fills: Vec::new(), cancelled: [2].into() };
        assert_eq!(serde_json::to_string(&cancel).unwrap(), r#"{"number":1,"cancelled":[2]}"#);
        assert!(serde_json::from_str::<LedgerEntry>(&line.replace("SHORT", "UP")).is_err());
    }
}
