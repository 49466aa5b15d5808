//! The main engine: gateways by name, the event engine, order management, the log.

use core::fmt;
use std::collections::BTreeSet;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::{String, ToString};
use std::sync::{Arc, PoisonError, RwLock};
use std::vec::Vec;

use super::event_engine::discard;
use super::{
    BarData, CancelRequest, EventEngine, Exchange, Gateway, GatewayContext, HistoryRequest, LogData,
    LogEngine, LogLevel, OmsEngine, OrderRequest, PutError, QuoteRequest, Refusal, SendError, Setting,
    StartError, Stopped, SubscribeRequest,
};

/// What a trading program is built around: it owns the event engine, the order management and the gateways, and sends
/// each request to the gateway that it names.
///
/// Errors are the gateway's own, or [`Refusal::NoSuchGateway`]: nothing is dropped with a log line. No lock is held while a
/// gateway works.
///
/// A handle: clones are the same engine, and it closes when the last one goes. A handler or a gateway that holds one
/// keeps it open until [`MainEngine::close`].
#[derive(Clone)]
pub struct MainEngine {
    inner: Arc<Inner>,
}

struct Inner {
    events: EventEngine,
    oms: OmsEngine,
    log: LogEngine,
    gateways: RwLock<Gateways>,
}

#[derive(Default)]
struct Gateways {
    /// In the order in which they were added; there are few.
    list: Vec<(String, Arc<dyn Gateway>)>,
    is_closed: bool,
}

/// The source of the main engine's own log lines.
const LOG_SOURCE: &str = "MainEngine";

impl MainEngine {
    /// A main engine with an event engine of its own, started.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn new() -> Result<Self, StartError> {
        Self::with_event_engine(EventEngine::new())
    }

    /// A main engine on this event engine, which it starts, unless it runs, and stops in the end. Handlers that were
    /// registered before come before the order management.
    ///
    /// # Errors
    /// The system starts no thread, or the event engine has not ended its last life.
    pub fn with_event_engine(events: EventEngine) -> Result<Self, StartError> {
        let oms = OmsEngine::new(&events);
        let log = LogEngine::new(&events);
        match events.start() {
            Ok(()) | Err(StartError::AlreadyRunning) => {}
            Err(error) => return Err(error),
        }
        Ok(MainEngine { inner: Arc::new(Inner { events, oms, log, gateways: RwLock::default() }) })
    }

    /// The event engine, to register handlers and put events.
    pub fn event_engine(&self) -> &EventEngine {
        &self.inner.events
    }

    /// The newest record of everything.
    pub fn oms(&self) -> &OmsEngine {
        &self.inner.oms
    }

    /// Adds the gateway that `make` makes for a context of this name.
    ///
    /// # Errors
    /// The name is empty, has a dot, or is taken; the gateway calls itself otherwise; the engine is closed.
    pub fn add_gateway<G: Gateway + 'static>(
        &self,
        name: &str,
        make: impl FnOnce(GatewayContext) -> G,
    ) -> Result<Arc<G>, AddGatewayError> {
        if name.is_empty() || name.contains('.') {
            return Err(AddGatewayError::BadName(name.to_string()));
        }
        self.check_free(name)?;
        let gateway = Arc::new(make(GatewayContext::new(name, self.inner.events.clone())));
        if gateway.name() != name {
            return Err(AddGatewayError::CallsItself(gateway.name().to_string()));
        }
        let mut gateways = self.inner.gateways.write().unwrap_or_else(PoisonError::into_inner);
        gateways.check_free(name)?; // Somebody may have been quicker.
        gateways.list.push((name.to_string(), Arc::clone(&gateway) as Arc<dyn Gateway>));
        Ok(gateway)
    }

    /// The gateway of this name.
    ///
    /// # Errors
    /// There is none, or the engine is closed.
    pub fn gateway(&self, name: &str) -> Result<Arc<dyn Gateway>, Refusal> {
        let gateways = self.inner.gateways.read().unwrap_or_else(PoisonError::into_inner);
        if gateways.is_closed {
            return Err(Refusal::Closed);
        }
        gateways.find(name).ok_or_else(|| Refusal::NoSuchGateway(name.to_string()))
    }

    /// The names of all gateways, in the order in which they were added.
    pub fn gateway_names(&self) -> Vec<String> {
        let gateways = self.inner.gateways.read().unwrap_or_else(PoisonError::into_inner);
        gateways.list.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The exchanges that some gateway trades on, in the order of their numbers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let gateways = self.inner.gateways.read().unwrap_or_else(PoisonError::into_inner).list.clone();
        let all: BTreeSet<Exchange> = gateways.iter().flat_map(|(_, gateway)| gateway.exchanges()).collect();
        all.into_iter().collect()
    }

    /// What a gateway's [`MainEngine::connect`] wants to know.
    ///
    /// # Errors
    /// There is no such gateway.
    pub fn default_setting(&self, gateway_name: &str) -> Result<Setting, Refusal> {
        Ok(self.gateway(gateway_name)?.default_setting())
    }

    /// Tells a gateway to connect. What comes of it is in its log events.
    ///
    /// # Errors
    /// There is no such gateway, or what [`Gateway::connect`] says.
    pub fn connect(&self, setting: &Setting, gateway_name: &str) -> Result<(), Refusal> {
        self.gateway(gateway_name)?.connect(setting)
    }

    /// Asks a gateway for the ticks of a contract.
    ///
    /// # Errors
    /// There is no such gateway, or what [`Gateway::subscribe`] says.
    pub fn subscribe(&self, request: &SubscribeRequest, gateway_name: &str) -> Result<(), Refusal> {
        self.gateway(gateway_name)?.subscribe(request)
    }

    /// Sends an order through a gateway and returns its `vt_orderid`.
    ///
    /// # Errors
    /// The request makes no sense, there is no such gateway, or what [`Gateway::send_order`] says.
    pub fn send_order(&self, request: &OrderRequest, gateway_name: &str) -> Result<String, SendError> {
        let gateway = self.gateway(gateway_name)?;
        request.check().map_err(Refusal::from)?;
        gateway.send_order(request)
    }

    /// Asks a gateway to cancel an order.
    ///
    /// # Errors
    /// There is no such gateway, or what [`Gateway::cancel_order`] says.
    pub fn cancel_order(&self, request: &CancelRequest, gateway_name: &str) -> Result<(), SendError> {
        self.gateway(gateway_name)?.cancel_order(request)
    }

    /// Sends a quote through a gateway and returns its `vt_quoteid`.
    ///
    /// # Errors
    /// The request makes no sense, there is no such gateway, or what [`Gateway::send_quote`] says.
    pub fn send_quote(&self, request: &QuoteRequest, gateway_name: &str) -> Result<String, SendError> {
        let gateway = self.gateway(gateway_name)?;
        request.check().map_err(Refusal::from)?;
        gateway.send_quote(request)
    }

    /// Asks a gateway to cancel a quote.
    ///
    /// # Errors
    /// There is no such gateway, or what [`Gateway::cancel_quote`] says.
    pub fn cancel_quote(&self, request: &CancelRequest, gateway_name: &str) -> Result<(), SendError> {
        self.gateway(gateway_name)?.cancel_quote(request)
    }

    /// The bars of a contract, from a gateway. May block.
    ///
    /// # Errors
    /// There is no such gateway, or what [`Gateway::query_history`] says.
    pub fn query_history(
        &self,
        request: &HistoryRequest,
        gateway_name: &str,
    ) -> Result<Vec<BarData>, Refusal> {
        self.gateway(gateway_name)?.query_history(request)
    }

    /// Puts a log event under the main engine's own name.
    ///
    /// # Errors
    /// It has reached nobody.
    pub fn write_log(&self, level: LogLevel, msg: impl Into<String>) -> Result<(), PutError> {
        self.inner.events.put(LogData { level, ..LogData::new(LOG_SOURCE, msg) })
    }

    /// Closes all gateways, the last one that was added first, then the event engine, after what they still had to say.
    /// Returns how that went. Twice is harmless.
    pub fn close(&self) -> Stopped {
        self.inner.close()
    }

    fn check_free(&self, name: &str) -> Result<(), AddGatewayError> {
        self.inner.gateways.read().unwrap_or_else(PoisonError::into_inner).check_free(name)
    }
}

impl fmt::Debug for MainEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainEngine").field("gateways", &self.gateway_names()).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) -> Stopped {
        let gateways = {
            let mut gateways = self.gateways.write().unwrap_or_else(PoisonError::into_inner);
            gateways.is_closed = true;
            core::mem::take(&mut gateways.list)
        };
        for (name, gateway) in gateways.into_iter().rev() {
            // One that panics keeps no other from closing.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(move || {
                gateway.close();
                drop(gateway);
            })) {
                discard(panic);
                log::warn!("gateway-panicked: {name}");
            }
        }
        let stopped = self.events.stop();
        if stopped.is_over {
            self.log.close();
        }
        stopped
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let stopped = self.close();
        if stopped.dropped > 0 {
            log::warn!("events-dropped: {} at the end of the main engine", stopped.dropped);
        }
    }
}

impl Gateways {
    fn find(&self, name: &str) -> Option<Arc<dyn Gateway>> {
        self.list.iter().find(|(other, _)| other == name).map(|(_, gateway)| Arc::clone(gateway))
    }

    fn check_free(&self, name: &str) -> Result<(), AddGatewayError> {
        if self.is_closed {
            Err(AddGatewayError::Closed)
        } else if self.find(name).is_some() {
            Err(AddGatewayError::NameTaken(name.to_string()))
        } else {
            Ok(())
        }
    }
}

/// Why a gateway was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddGatewayError {
    /// The name is empty or has a dot: ids could not be taken apart.
    #[error("{0:?} is no name for a gateway: it is empty or has a dot")]
    BadName(String),
    /// There is a gateway of this name.
    #[error("there is a gateway named {0:?} already")]
    NameTaken(String),
    /// The gateway's own name is another one.
    #[error("the gateway calls itself {0:?}")]
    CallsItself(String),
    /// The main engine has been closed.
    #[error("the main engine is closed")]
    Closed,
}
