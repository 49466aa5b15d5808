//! A trading client: a main engine with a gateway to the server, a strategy that trades, and an honest account of it.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pulsewire::trader::{
    functions, AccountData, AddGatewayError, ContractData, Direction, GatewayState, MainEngine, OrderData,
    PositionData, PutError, Refusal, RpcGateway, SendError, Setting, Settlement, StartError,
    SubscribeRequest, TradeData,
};
use pulsewire::{CallError, RpcClient};
use serde::{Deserialize, Serialize};

use super::strategy::{Action, Strategy};

/// The gateway's name.
pub const GATEWAY: &str = "RPC";

/// Between two looks at whether something has come about.
const NAP: Duration = Duration::from_millis(5);

/// One who trades. Its orders have references that begin with its name, which tell them from those of others.
pub struct TradingClient {
    pub main: MainEngine,
    pub gateway: Arc<RpcGateway>,
    name: String,
    address: String,
    strategy: Strategy,
    /// What it trades.
    contracts: Vec<Arc<ContractData>>,
    sent: Vec<Sent>,
}

/// An order, and what its sender knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub reference: String,
    /// What was said when it was sent.
    pub told: Told,
    /// The `vt_orderid` under which it was found in the end. `None`: it is not there.
    pub found: Option<String>,
}

/// What the sender of an order was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It has this `vt_orderid`.
    Placed(String),
    /// It was certainly not placed.
    Refused,
    /// It may or may not have been placed.
    Unknown,
}

/// What a client believes in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// All that it sent, in this order.
    pub sent: Vec<Sent>,
    /// Its orders.
    pub orders: Vec<OrderData>,
    /// Their trades.
    pub trades: Vec<TradeData>,
    /// What it holds: bought less sold, by `vt_symbol`.
    pub positions: BTreeMap<String, f64>,
    /// The account that it shares with all who trade there.
    pub account: AccountData,
    /// What is held in that account.
    pub shared_positions: Vec<PositionData>,
}

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Engine(#[from] StartError),
    #[error(transparent)]
    Gateway(#[from] AddGatewayError),
    #[error("the gateway does not connect: {0}")]
    Connect(Refusal),
    #[error("no ticks: {0}")]
    Subscribe(Refusal),
    #[error("the event engine takes nothing: {0}")]
    Put(#[from] PutError),
    #[error("the server cannot be asked: {0}")]
    Ask(#[from] CallError),
    #[error("no second connection: {0}")]
    Second(#[from] pulsewire::net::Error),
    #[error("waited {0:?} for {1}, in vain")]
    Late(Duration, String),
}

impl TradingClient {
    /// A client that connects; the server may come later.
    ///
    /// # Errors
    /// The address makes no sense, or the system starts no threads.
    pub fn connect(name: &str, address: &str, strategy: Strategy) -> Result<Self, Trouble> {
        let main = MainEngine::new()?;
        let gateway = main.add_gateway(GATEWAY, RpcGateway::new)?;
        main.connect(&Setting::new().with("rep_address", address), GATEWAY).map_err(Trouble::Connect)?;
        Ok(TradingClient {
            main,
            gateway,
            name: name.into(),
            address: address.into(),
            strategy,
            contracts: Vec::new(),
            sent: Vec::new(),
        })
    }

    /// Waits until it has all that the server has, and the ticks of the first so many contracts.
    ///
    /// # Errors
    /// That did not come about in time.
    pub fn begin(&mut self, contracts: usize, patience: Duration) -> Result<(), Trouble> {
        if !self.gateway.wait_live(patience) {
            return Err(Trouble::Late(patience, "the server".into()));
        }
        self.catch_up(patience)?;
        self.contracts = self.main.oms().contracts();
        self.contracts.truncate(contracts);
        for contract in &self.contracts {
            let request = SubscribeRequest::new(&*contract.symbol, contract.exchange);
            self.main.subscribe(&request, GATEWAY).map_err(Trouble::Subscribe)?;
        }
        Ok(())
    }

    /// Does what the strategy wants next, in one of its contracts.
    pub fn act(&mut self) {
        let contract = Arc::clone(&self.contracts[self.strategy.choose(self.contracts.len())]);
        let vt_symbol = contract.vt_symbol();
        let Some(tick) = self.main.oms().tick(&vt_symbol) else { return };
        let mut resting = self.main.oms().active_orders(Some(&vt_symbol));
        resting.retain(|order| self.is_own(order));
        match self.strategy.decide(&contract, &tick, &resting) {
            Action::Send(mut request) => {
                request.reference = format!("{}/{}", self.name, self.sent.len());
                let told = match self.main.send_order(&request, GATEWAY) {
                    Ok(vt_orderid) => Told::Placed(vt_orderid),
                    Err(SendError::Refused(_)) => Told::Refused,
                    Err(SendError::Unknown(_)) => Told::Unknown,
                };
                self.sent.push(Sent { reference: request.reference, told, found: None });
            }
            // Whether it was cancelled, or had traded meanwhile, comes as an event.
            Action::Cancel(request) => drop(self.main.cancel_order(&request, GATEWAY)),
        }
    }

    /// Everything that it sent so far.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Takes back what rests, and waits until it is known what became of everything that was sent.
    ///
    /// # Errors
    /// That did not come about in time.
    pub fn settle(&mut self, patience: Duration) -> Result<(), Trouble> {
        let deadline = Instant::now() + patience;
        loop {
            self.catch_up(patience)?;
            for order in self.main.oms().active_orders(None).iter().filter(|order| self.is_own(order)) {
                let _ = self.main.cancel_order(&order.cancel_request(), GATEWAY);
                // Asked again until it has ended.
            }
            match self.unsettled() {
                None => break,
                Some(what) if Instant::now() >= deadline => return Err(Trouble::Late(patience, what)),
                Some(_) => thread::sleep(NAP),
            }
        }
        let found: BTreeMap<String, String> =
            self.orders().iter().map(|order| (order.reference.clone(), order.vt_orderid())).collect();
        for sent in &mut self.sent {
            sent.found = found.get(&sent.reference).cloned();
        }
        Ok(())
    }

    /// What it believes, once it has settled, and nobody trades any more.
    ///
    /// # Errors
    /// The server cannot be asked, or what is here does not become what is there.
    pub fn statement(&self, patience: Duration) -> Result<Statement, Trouble> {
        let client = RpcClient::connect(&self.address)?;
        let there = client.call(functions::GET_ALL_ACCOUNTS, &())?;
        let held_there = client.call(functions::GET_ALL_POSITIONS, &())?;
        client.stop();
        let deadline = Instant::now() + patience;
        loop {
            let (account, positions) = (self.main.oms().accounts(), self.main.oms().positions());
            let is_same = account
                .iter()
                .map(|account| (account.balance, account.frozen))
                .eq(there.iter().map(|account| (account.balance, account.frozen)))
                && volumes(&positions) == volumes(&held_there);
            match account.first().filter(|_| is_same) {
                Some(account) => return Ok(self.statement_with(account, &positions)),
                None if Instant::now() >= deadline => {
                    return Err(Trouble::Late(patience, "the account to be the server's".into()));
                }
                None => thread::sleep(NAP),
            }
        }
    }

    fn statement_with(&self, account: &AccountData, positions: &[Arc<PositionData>]) -> Statement {
        let (orders, trades) = (self.orders(), self.trades());
        let mut held = BTreeMap::new();
        for trade in &trades {
            let sign = if trade.direction == Some(Direction::Long) { 1.0 } else { -1.0 };
            *held.entry(trade.vt_symbol()).or_default() += sign * trade.volume;
        }
        Statement {
            sent: self.sent.clone(),
            orders: orders.iter().map(|order| OrderData::clone(order)).collect(),
            trades: trades.iter().map(|trade| TradeData::clone(trade)).collect(),
            positions: held,
            account: account.clone(),
            shared_positions: positions.iter().map(|position| PositionData::clone(position)).collect(),
        }
    }

    /// Its orders, the oldest first.
    pub fn orders(&self) -> Vec<Arc<OrderData>> {
        let mut orders = self.main.oms().orders();
        orders.retain(|order| self.is_own(order));
        orders
    }

    /// The trades of its orders, the oldest first.
    pub fn trades(&self) -> Vec<Arc<TradeData>> {
        let mut trades = self.main.oms().trades();
        let oms = self.main.oms();
        trades.retain(|trade| oms.order(&trade.vt_orderid()).is_some_and(|order| self.is_own(&order)));
        trades
    }

    /// What is not known yet, of all that was sent.
    fn unsettled(&self) -> Option<String> {
        if self.gateway.state() != GatewayState::Live {
            return Some("the server".into());
        }
        let oms = self.main.oms();
        let unknowns = self.gateway.unknown_orders();
        let mut placed = self.sent.iter().filter_map(|sent| match &sent.told {
            Told::Placed(vt_orderid) => Some(vt_orderid.clone()),
            Told::Refused => None,
            Told::Unknown => {
                let unknown = unknowns.iter().find(|unknown| unknown.reference == sent.reference)?;
                match &unknown.settlement {
                    Settlement::Placed(vt_orderid) => Some(vt_orderid.clone()),
                    _ => None,
                }
            }
        });
        if let Some(vt_orderid) = placed.find(|vt_orderid| oms.order(vt_orderid).is_none()) {
            return Some(format!("order {vt_orderid} to be reported"));
        }
        if let Some(open) = unknowns.iter().find(|unknown| unknown.settlement == Settlement::Open) {
            return Some(format!("news of order {}", open.reference));
        }
        let mut traded: BTreeMap<String, f64> = BTreeMap::new();
        for trade in self.trades() {
            *traded.entry(trade.vt_orderid()).or_default() += trade.volume;
        }
        let is_settled = |order: &OrderData| {
            let traded = traded.get(&order.vt_orderid()).copied().unwrap_or_default();
            !order.is_active() && (traded - order.traded).abs() <= 1e-9 * order.volume
        };
        let open = self.orders().into_iter().find(|order| !is_settled(order))?;
        Some(format!("order {} to end with all its trades", open.vt_orderid()))
    }

    /// Waits until the event engine has handed out all that the gateway has put.
    fn catch_up(&self, patience: Duration) -> Result<(), Trouble> {
        let (sender, done) = mpsc::channel();
        self.main.event_engine().run_in_turn(move || {
            let _ = sender.send(()); // Whoever has lost patience need not hear it.
        })?;
        done.recv_timeout(patience).map_err(|_| Trouble::Late(patience, "the event engine".into()))
    }

    fn is_own(&self, order: &OrderData) -> bool {
        order.reference.strip_prefix(&*self.name).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What is held of each contract that is held at all.
fn volumes(positions: &[Arc<PositionData>]) -> BTreeMap<String, f64> {
    let held = positions.iter().filter(|position| position.volume != 0.0);
    held.map(|position| (position.vt_symbol(), position.volume)).collect()
}
