//! The trading bridge: the records, the event engine, the gateways and the order management of [vn.py](https://www.vnpy.com),
//! for programs that trade through gateways of their own or in another process.
//!
//! ```text
//!              requests                                       +--> OmsEngine: the newest record of everything, by id
//! strategies -----------> MainEngine --> Gateway (by name)    |--> LogEngine: log events to the `log` crate
//!     ^                                     |                 |--> handlers: strategies, services
//!     |                                     v                 |
//!     |                              GatewayContext --> EventEngine (one queue, one thread, a timer)
//!     +-----------------------------------------------------------+
//! ```
//!
//! A [`Gateway`] takes requests and reports ticks, orders, trades ... through its [`GatewayContext`]. The [`EventEngine`]
//! hands each of these [`Event`]s to all who have registered for its type, one at a time. The [`MainEngine`] puts it
//! together, and [`paper`] has a gateway that needs no exchange:
//!
//! ```
//! use pulsewire::trader::*;
//! # struct Paper(GatewayContext);
//! # impl Gateway for Paper {
//! #     fn name(&self) -> &str { self.0.gateway_name() }
//! #     fn connect(&self, _: &Setting) -> Result<(), Refusal> { Ok(()) }
//! #     fn close(&self) {}
//! #     fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
//! #         let tick = TickData::new("PAPER", &*request.symbol, request.exchange, Timestamp::now());
//! #         Ok(self.0.on_tick(TickData { last_price: 3_500.0, ..tick })?)
//! #     }
//! #     fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
//! #         let order = request.to_order("PAPER", "1");
//! #         self.0.on_order(order.clone()).map_err(Refusal::from)?;
//! #         Ok(order.vt_orderid())
//! #     }
//! #     fn cancel_order(&self, _: &CancelRequest) -> Result<(), SendError> { Ok(()) }
//! #     fn query_account(&self) -> Result<(), Refusal> { Ok(()) }
//! #     fn query_position(&self) -> Result<(), Refusal> { Ok(()) }
//! # }
//! let main = MainEngine::new()?;
//! main.add_gateway("PAPER", Paper)?; // A tuple struct around a `GatewayContext`.
//! main.connect(&Setting::new(), "PAPER")?;
//!
//! let (sender, ticks) = std::sync::mpsc::channel();
//! main.event_engine().register("eTick.rb2410.SHFE", move |event| {
//!     if let Event::Tick(tick) = event {
//!         let _ = sender.send(tick.last_price);
//!     }
//! });
//! main.subscribe(&SubscribeRequest::new("rb2410", Exchange::Shfe), "PAPER")?;
//! let price = ticks.recv()?;
//!
//! let order = OrderRequest::new("rb2410", Exchange::Shfe, Direction::Long, OrderType::Limit, 1.0);
//! match main.send_order(&OrderRequest { price, ..order }, "PAPER") {
//!     Ok(vt_orderid) => println!("{vt_orderid} is on its way"),
//!     Err(SendError::Refused(why)) => println!("certainly not placed: {why}"),
//!     Err(SendError::Unknown(what)) => println!("may be placed, not to be sent again: {what}"),
//! }
//! assert_eq!(main.close().dropped, 0);
//! assert_eq!(main.oms().active_orders(Some("rb2410.SHFE")).len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In two processes
//!
//! ```text
//! process of the gateways                                process of the strategies
//!   MainEngine                                             MainEngine
//!     +-- Gateway CTP    RpcService ---- calls ---------- RpcGateway "RPC"
//!     +-- Gateway IB         +---------- main stream ------> | orders, trades, positions ...
//!     +-- EventEngine -------+---------- stream "ticks" ---> | ticks
//! ```
//!
//! An [`RpcService`] serves a main engine, and to another one an [`RpcGateway`] is a gateway like any other: any number of
//! them, started in any order. [`functions`] holds what the one answers and the other asks. A snapshot belongs to a place in
//! the stream of events, and the stream goes on from that place, so that nothing is lost or taken twice; the page of
//! [`RpcGateway`] says what happens when a connection, a server or a message is lost.
//!
//! # What is as in vn.py, and what is not
//!
//! Names, fields, ids and event types are vn.py's; `get_all_active_orders` is `oms().active_orders(..)`. What differs:
//!
//! * **Ids are computed** from their parts ([`id`]), so they never go stale. Order ids may have dots, gateway names may
//!   not. The ids of positions end in `LONG`, `SHORT` or `NET` on every machine, not in a translated text.
//! * **Enums are numbers on the wire**, the same ones for ever; an unknown number is a decode error.
//! * **An order is placed, refused, or unknown**, and the type says which ([`SendError`]); never an empty id.
//! * **A record is one event**, with a general and a specific type, not two. Who listens to everything gets it once.
//! * **The queue has a limit.** When it is full, who puts waits, and is told if it was in vain. Nothing vanishes.
//! * **A handler that panics** loses that event alone.
//! * **Closing** goes from the gateways to the event engine, so that the last reports are still heard, and says what was
//!   not.
//!
//! # Threads
//!
//! The event engine has one, `pulsewire-engine`; all handlers run there. Gateways have what they need; the pages of
//! [`RpcService`] and [`RpcGateway`] count theirs. Everything here can be called from any thread, and from handlers.

mod enums;
mod event;
mod event_engine;
pub mod functions;
mod gateway;
pub mod id;
mod log_engine;
mod main_engine;
mod object;
mod oms;
pub mod paper;
mod rpc_gateway;
mod service;
mod setting;
mod timestamp;

pub use enums::{
    Currency, Direction, Exchange, Interval, LogLevel, Offset, OptionType, OrderType, Product, Status,
    UnknownName, UnknownNumber,
};
pub use event::{
    CustomData, CustomEvent, Event, InvalidEventType, EVENT_ACCOUNT, EVENT_CONTRACT, EVENT_LOG, EVENT_ORDER,
    EVENT_POSITION, EVENT_QUOTE, EVENT_TICK, EVENT_TIMER, EVENT_TRADE, MAX_EVENT_TYPE_BYTES,
};
pub use event_engine::{
    EventEngine, EventEngineConfig, EventEngineStats, HandlerId, PutError, StartError, Stopped,
};
pub use gateway::{Gateway, GatewayContext, OutcomeUnknown, Refusal, Resolution, SendError};
pub use id::IdError;
pub use log_engine::{LogEngine, LOG_TARGET};
pub use main_engine::{AddGatewayError, MainEngine};
pub use object::{
    AccountData, BarData, CancelRequest, ContractData, Extra, HistoryRequest, InvalidRequest, LogData,
    OrderData, OrderRequest, PositionData, QuoteData, QuoteRequest, SubscribeRequest, TickData, TradeData,
};
pub use oms::OmsEngine;
pub use rpc_gateway::{
    settled_event_type, state_event_type, GatewayState, GatewayStatus, RpcGateway, Settlement, UnknownOrder,
    REMOTE_GATEWAY,
};
pub use service::{
    RpcService, RpcServiceError, RpcServiceOptions, RpcServiceSetting, RpcServiceSettingError,
    RpcServiceStats, EVENT_RPC_LOG, TICKS_STREAM,
};
pub use setting::{Setting, SettingError};
pub use timestamp::{ParseTimestampError, Timestamp, TimestampOutOfRange};
