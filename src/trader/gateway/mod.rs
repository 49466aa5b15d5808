//! Gateways: one for each way to an exchange or a broker.

mod context;
mod outcome;

use std::string::String;
use std::vec::Vec;

use super::{
    BarData, CancelRequest, Exchange, HistoryRequest, OrderRequest, QuoteRequest, Setting, SubscribeRequest,
};
pub use context::GatewayContext;
pub use outcome::{OutcomeUnknown, Refusal, Resolution, SendError};

/// A way to trade: takes requests, and reports what happens through its [`GatewayContext`].
///
/// All methods may be called from any thread, at the same time, and from handlers on the event engine's thread. They
/// should not block: what takes a while is begun, and its result is an event. A gateway connects again by itself after a
/// loss, and then reports contracts, accounts, positions and orders anew.
///
/// What it reports about an order begins with a record that is submitting, under the id that [`Gateway::send_order`]
/// returns, or rejected if the order could not be sent.
///
/// ```
/// use pulsewire::trader::{
///     CancelRequest, Gateway, GatewayContext, OrderRequest, Refusal, SendError, Setting, SubscribeRequest,
/// };
///
/// /// Takes every order and never trades.
/// struct Void(GatewayContext);
///
/// impl Gateway for Void {
///     fn name(&self) -> &str {
///         self.0.gateway_name()
///     }
///     fn connect(&self, _: &Setting) -> Result<(), Refusal> {
///         Ok(())
///     }
///     fn close(&self) {}
///     fn subscribe(&self, _: &SubscribeRequest) -> Result<(), Refusal> {
///         Ok(())
///     }
///     fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
///         let order = request.to_order(self.name(), "1");
///         let vt_orderid = order.vt_orderid();
///         // What nobody would hear of is not sent at all.
///         self.0.on_order(order).map_err(Refusal::from)?;
///         Ok(vt_orderid)
///     }
///     fn cancel_order(&self, _: &CancelRequest) -> Result<(), SendError> {
///         Err(Refusal::Rejected("there are no orders here".into()).into())
///     }
///     fn query_account(&self) -> Result<(), Refusal> {
///         Ok(())
///     }
///     fn query_position(&self) -> Result<(), Refusal> {
///         Ok(())
///     }
/// }
/// ```
pub trait Gateway: Send + Sync {
    /// The name in its ids: that of its context.
    fn name(&self) -> &str;

    /// Begins to connect, with a setting such as [`Gateway::default_setting`] shows. Once connected it reports contracts,
    /// accounts, positions, orders and trades.
    ///
    /// # Errors
    /// The setting makes no sense. That the other end cannot be reached is no error: it goes on trying.
    fn connect(&self, setting: &Setting) -> Result<(), Refusal>;

    /// Ends the connection. Twice is harmless.
    fn close(&self);

    /// Asks for the ticks of a contract, for as long as the gateway lives. Twice is harmless.
    ///
    /// # Errors
    /// There will be no ticks, and why.
    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal>;

    /// Sends an order and returns its `vt_orderid`: it is on its way, and all else comes as events.
    ///
    /// # Errors
    /// It was certainly not placed, or it may or may not have been; [`SendError`] says which.
    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError>;

    /// Asks for an order to be cancelled; whether it is, comes as an event.
    ///
    /// # Errors
    /// The request was certainly not sent, or it may or may not have been. A cancel may be sent again in either case.
    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError>;

    /// Sends a quote and returns its `vt_quoteid`. Unless it is implemented, quotes are not supported.
    ///
    /// # Errors
    /// As for [`Gateway::send_order`].
    fn send_quote(&self, request: &QuoteRequest) -> Result<String, SendError> {
        let _ = request;
        Err(Refusal::NotSupported.into())
    }

    /// Asks for a quote to be cancelled. Unless it is implemented, quotes are not supported.
    ///
    /// # Errors
    /// As for [`Gateway::cancel_order`].
    fn cancel_quote(&self, request: &CancelRequest) -> Result<(), SendError> {
        let _ = request;
        Err(Refusal::NotSupported.into())
    }

    /// Asks for the accounts; they come as events.
    ///
    /// # Errors
    /// They will not come, and why.
    fn query_account(&self) -> Result<(), Refusal>;

    /// Asks for the positions; they come as events.
    ///
    /// # Errors
    /// They will not come, and why.
    fn query_position(&self) -> Result<(), Refusal>;

    /// The bars of a contract, the oldest first. The one method that may block: not for the event engine's thread.
    /// Unless it is implemented, it is not supported.
    ///
    /// # Errors
    /// There are none to be had, and why. No bars in that time is an empty list.
    fn query_history(&self, request: &HistoryRequest) -> Result<Vec<BarData>, Refusal> {
        let _ = request;
        Err(Refusal::NotSupported)
    }

    /// What [`Gateway::connect`] wants to know, with values to begin with. Empty unless it is implemented.
    fn default_setting(&self) -> Setting {
        Setting::new()
    }

    /// The exchanges that it trades on. None unless it is implemented.
    fn exchanges(&self) -> Vec<Exchange> {
        Vec::new()
    }
}
