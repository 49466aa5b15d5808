//! What an [`RpcService`](super::RpcService) answers: the names and types of its functions, shared by both ends.
//!
//! The names are vn.py's; what it forgot (quotes, the names of the gateways) is named in its manner. A gateway's name
//! goes with every request, as there. Requests are answered with what the main engine says, so that an order that was
//! refused is told from one whose outcome is unknown. Records come in `Arc`s, as the order management keeps them; on the
//! wire they are plain.
//!
//! | lane | functions |
//! |---|---|
//! | `orders` | orders, cancels, quotes, [`FIND_SENT`]: a client's requests keep their order |
//! | `queries` | subscribe, queries of account and position: a gateway that is slow at these delays no order |
//! | `history` | [`QUERY_HISTORY`]: a slow one delays nothing else |
//! | `snapshot` | [`SNAPSHOT`], [`SNAPSHOT_PAGE`] |
//! | `main` | all that looks something up |
//!
//! ```
//! use pulsewire::trader::{functions, MainEngine, RpcService, RpcServiceSetting};
//! use pulsewire::RpcClient;
//!
//! let service = RpcService::new(&MainEngine::new()?);
//! service.start(&RpcServiceSetting::new("127.0.0.1:0", ""))?;
//! let client = RpcClient::connect(service.local_addrs()[0])?;
//! assert!(client.call(functions::GET_ALL_ORDERS, &())?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{
    AccountData, BarData, CancelRequest, ContractData, Event, HistoryRequest, OrderData, OrderRequest,
    PositionData, QuoteData, QuoteRequest, Refusal, SendError, SubscribeRequest, TickData, TradeData,
};
use crate::rpc::Method;

/// A request, and the name of the gateway that it is for.
type To<Request> = (Request, String);

/// Asks a gateway for the ticks of a contract. Twice is harmless.
pub const SUBSCRIBE: Method<To<SubscribeRequest>, Result<(), Refusal>> = Method::new("subscribe");
/// Sends an order and gives its `vt_orderid`.
pub const SEND_ORDER: Method<To<OrderRequest>, Result<String, SendError>> = Method::new("send_order");
/// Asks for an order to be cancelled.
pub const CANCEL_ORDER: Method<To<CancelRequest>, Result<(), SendError>> = Method::new("cancel_order");
/// Sends a quote and gives its `vt_quoteid`.
pub const SEND_QUOTE: Method<To<QuoteRequest>, Result<String, SendError>> = Method::new("send_quote");
/// Asks for a quote to be cancelled.
pub const CANCEL_QUOTE: Method<To<CancelRequest>, Result<(), SendError>> = Method::new("cancel_quote");
/// The bars of a contract, the oldest first.
pub const QUERY_HISTORY: Method<To<HistoryRequest>, Result<Vec<BarData>, Refusal>> =
    Method::new("query_history");
/// Asks a gateway, or with an empty name all of them, for its accounts; they come as events.
pub const QUERY_ACCOUNT: Method<String, Result<(), Refusal>> = Method::new("query_account");
/// Asks a gateway, or with an empty name all of them, for its positions; they come as events.
pub const QUERY_POSITION: Method<String, Result<(), Refusal>> = Method::new("query_position");

/// The last tick of a contract, by `vt_symbol`.
pub const GET_TICK: Method<String, Option<Arc<TickData>>> = Method::new("get_tick");
/// An order, by `vt_orderid`.
pub const GET_ORDER: Method<String, Option<Arc<OrderData>>> = Method::new("get_order");
/// A trade, by `vt_tradeid`.
pub const GET_TRADE: Method<String, Option<Arc<TradeData>>> = Method::new("get_trade");
/// A position, by `vt_positionid`.
pub const GET_POSITION: Method<String, Option<Arc<PositionData>>> = Method::new("get_position");
/// An account, by `vt_accountid`.
pub const GET_ACCOUNT: Method<String, Option<Arc<AccountData>>> = Method::new("get_account");
/// A contract, by `vt_symbol`.
pub const GET_CONTRACT: Method<String, Option<Arc<ContractData>>> = Method::new("get_contract");
/// A quote, by `vt_quoteid`.
pub const GET_QUOTE: Method<String, Option<Arc<QuoteData>>> = Method::new("get_quote");

/// The last tick of each contract.
pub const GET_ALL_TICKS: Method<(), Vec<Arc<TickData>>> = Method::new("get_all_ticks");
/// All orders.
pub const GET_ALL_ORDERS: Method<(), Vec<Arc<OrderData>>> = Method::new("get_all_orders");
/// All trades.
pub const GET_ALL_TRADES: Method<(), Vec<Arc<TradeData>>> = Method::new("get_all_trades");
/// All positions.
pub const GET_ALL_POSITIONS: Method<(), Vec<Arc<PositionData>>> = Method::new("get_all_positions");
/// All accounts.
pub const GET_ALL_ACCOUNTS: Method<(), Vec<Arc<AccountData>>> = Method::new("get_all_accounts");
/// All contracts.
pub const GET_ALL_CONTRACTS: Method<(), Vec<Arc<ContractData>>> = Method::new("get_all_contracts");
/// All quotes.
pub const GET_ALL_QUOTES: Method<(), Vec<Arc<QuoteData>>> = Method::new("get_all_quotes");
/// The orders that may still trade, of one contract if a `vt_symbol` is given.
pub const GET_ALL_ACTIVE_ORDERS: Method<Option<String>, Vec<Arc<OrderData>>> =
    Method::new("get_all_active_orders");
/// The quotes that may still trade, of one contract if a `vt_symbol` is given.
pub const GET_ALL_ACTIVE_QUOTES: Method<Option<String>, Vec<Arc<QuoteData>>> =
    Method::new("get_all_active_quotes");
/// The names of all gateways.
pub const GET_ALL_GATEWAY_NAMES: Method<(), Vec<String>> = Method::new("get_all_gateway_names");

/// Takes a snapshot: all that a client needs to begin with, and the place in the main stream that it belongs to. Gives its
/// first page, of so many bytes at most; the server may have a lower limit of its own.
pub const SNAPSHOT: Method<u32, SnapshotPage> = Method::new("snapshot");
/// The page of a snapshot that begins at this record: the id of the snapshot, [`SnapshotPage::next`] of the page before,
/// and so many bytes at most. `None`: the server has dropped that snapshot, another one has to be taken.
pub const SNAPSHOT_PAGE: Method<(u64, u64, u32), Option<SnapshotPage>> = Method::new("snapshot_page");
/// What became of an order or a quote whose answer got lost, by its reference. Begins when all requests that were read
/// before it have ended.
pub const FIND_SENT: Method<String, Lookup> = Method::new("find_sent");

/// A part of a snapshot: records of a server at one moment, and where in its main stream that moment is.
///
/// Of what the stream carries, the pages of one snapshot together hold exactly what was published below `position`:
/// whoever applies them all and then the messages from `position` on has lost nothing and taken nothing twice. Ticks are
/// not in it: their stream has snapshots of its own.
///
/// A page is bounded in records and bytes, a snapshot is not: it may have any number of pages. The server keeps the records
/// of that moment until the last page was asked for, or none was for 30 s; the client then takes another snapshot. Of
/// those with more than one page it keeps 16 at once, and refuses to take more until one has been fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// The life of the server.
    pub epoch: u64,
    /// The sequence number of the first message of the main stream that is not in the snapshot.
    pub position: u64,
    /// The id of the snapshot, in this life of the server.
    pub snapshot: u64,
    /// The place of this page's first record in the snapshot; the first page begins at 0.
    pub at: u64,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<u64>,
    /// Records between the two that are too large for any page of this limit, and are left out. Nor can they be published.
    pub left_out: u64,
    /// Records that the server had to forget by then, because its books keep only so many: in no page of any snapshot.
    pub forgotten: u64,
    /// The records, as they would be published. In the whole snapshot contracts come first, then accounts, positions,
    /// orders, trades and quotes.
    pub records: Vec<Event>,
}

/// What a server knows of an order or a quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The life of the server: [`Found::NeverSent`] is about this one alone.
    pub epoch: u64,
    /// What it knows.
    pub found: Found,
}

/// What a server knows of an order or a quote.
// The order of the variants is their number on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Found {
    /// It was handed to its gateway in this life, which said this.
    Sent(Result<String, SendError>),
    /// It is in the books under this `vt_orderid` or `vt_quoteid`.
    InBooks(String),
    /// In this life it has not been handed to a gateway, and will not be.
    NeverSent,
    /// It may or may not have been.
    Unknown,
}
