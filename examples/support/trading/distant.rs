//! An exchange that is some milliseconds away.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulsewire::trader::paper::PaperExchange;
use pulsewire::trader::{
    CancelRequest, Exchange, Gateway, OrderRequest, Refusal, SendError, Setting, SubscribeRequest,
};

/// A paper exchange behind a long way: what is asked of it takes time to get there, and so does the answer. So there is
/// a moment in which an order is placed and nobody on this side knows.
///
/// A real gateway would not block its caller for that long. This one does, to make that moment an easy target.
pub struct Distant {
    paper: Arc<PaperExchange>,
    way: Duration,
}

impl Distant {
    pub fn new(paper: Arc<PaperExchange>, way: Duration) -> Self {
        Distant { paper, way }
    }

    fn over_there<T>(&self, act: impl FnOnce(&PaperExchange) -> T) -> T {
        thread::sleep(self.way);
        let done = act(&self.paper);
        thread::sleep(self.way);
        done
    }
}

impl Gateway for Distant {
    fn name(&self) -> &str {
        self.paper.name()
    }

    fn connect(&self, setting: &Setting) -> Result<(), Refusal> {
        self.paper.connect(setting)
    }

    fn close(&self) {
        self.paper.close();
    }

    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
        self.paper.subscribe(request)
    }

    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
        self.over_there(|paper| paper.send_order(request))
    }

    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError> {
        self.over_there(|paper| paper.cancel_order(request))
    }

    fn query_account(&self) -> Result<(), Refusal> {
        self.paper.query_account()
    }

    fn query_position(&self) -> Result<(), Refusal> {
        self.paper.query_position()
    }

    fn default_setting(&self) -> Setting {
        self.paper.default_setting()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        self.paper.exchanges()
    }
}
