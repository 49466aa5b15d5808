//! Which function does what, and in which lane.

use std::format;
use std::string::String;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::publisher::Head;
use super::sent::Sent;
use super::snapshots::{Moment, Snapshots};
use crate::rpc::{FunctionResult, RpcServerBuilder};
use crate::trader::functions::{self, Found, Lookup};
use crate::trader::{Gateway, MainEngine, Refusal, SendError};

/// Where what changes something runs, so that a client's requests keep their order.
const ORDERS: &str = "orders";
/// Where gateways are asked for what comes as events: a gateway that is slow at that delays no order.
const QUERIES: &str = "queries";
/// Where histories are looked for, which may take minutes.
const HISTORY: &str = "history";
/// Where snapshots wait for the event engine, and are encoded.
const SNAPSHOT: &str = "snapshot";

/// How long a snapshot waits for its turn on the event engine's thread: as long as its caller does by default.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// Registers all functions.
pub(super) fn register(
    builder: RpcServerBuilder,
    main: &MainEngine,
    head: &Arc<Head>,
    sent: &Arc<Sent>,
    snapshots: &Arc<Snapshots>,
) -> RpcServerBuilder {
    let builder = register_requests(builder, main, sent);
    let builder = register_single_records(builder, main);
    let builder = register_lists(builder, main);
    let builder = register_snapshots(builder, main, head, snapshots);
    let (history, gateways) = (main.clone(), main.clone());
    let (books, head_of_lookup, sent) = (main.clone(), Arc::clone(head), Arc::clone(sent));
    builder
        .register_on(HISTORY, functions::QUERY_HISTORY, move |(request, name)| {
            Ok(history.query_history(&request, &name))
        })
        .register(functions::GET_ALL_GATEWAY_NAMES, move |()| Ok(gateways.gateway_names()))
        .register_on(ORDERS, functions::FIND_SENT, move |reference: String| {
            let epoch = *head_of_lookup.epoch.get().ok_or(NOT_STARTED)?;
            let found = match sent.find(&reference) {
                found @ (Found::NeverSent | Found::Unknown | Found::Sent(Err(SendError::Unknown(_)))) => {
                    in_books(&books, &reference).unwrap_or(found)
                }
                found => found,
            };
            Ok(Lookup { epoch, found })
        })
}

fn register_requests(builder: RpcServerBuilder, main: &MainEngine, sent: &Arc<Sent>) -> RpcServerBuilder {
    let [subscribe, order, cancel, quote, cancel_quote, account, position] =
        core::array::from_fn(|_| main.clone());
    let (of_orders, of_quotes) = (Arc::clone(sent), Arc::clone(sent));
    builder
        .register_on(QUERIES, functions::SUBSCRIBE, move |(request, name)| {
            Ok(subscribe.subscribe(&request, &name))
        })
        .register_on(ORDERS, functions::SEND_ORDER, move |(request, name)| {
            Ok(of_orders.remember(&request.reference, || order.send_order(&request, &name)))
        })
        .register_on(ORDERS, functions::CANCEL_ORDER, move |(request, name)| {
            Ok(cancel.cancel_order(&request, &name))
        })
        .register_on(ORDERS, functions::SEND_QUOTE, move |(request, name)| {
            Ok(of_quotes.remember(&request.reference, || quote.send_quote(&request, &name)))
        })
        .register_on(ORDERS, functions::CANCEL_QUOTE, move |(request, name)| {
            Ok(cancel_quote.cancel_quote(&request, &name))
        })
        .register_on(QUERIES, functions::QUERY_ACCOUNT, move |name: String| {
            Ok(query(&account, &name, |gateway| gateway.query_account()))
        })
        .register_on(QUERIES, functions::QUERY_POSITION, move |name: String| {
            Ok(query(&position, &name, |gateway| gateway.query_position()))
        })
}

/// Asks one gateway, or all of them if it has no name; then the first refusal is the answer.
fn query(
    main: &MainEngine,
    name: &str,
    ask: impl Fn(&dyn Gateway) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if !name.is_empty() {
        return ask(&*main.gateway(name)?);
    }
    let mut result = Ok(());
    for name in main.gateway_names() {
        result = result.and(main.gateway(&name).and_then(|gateway| ask(&*gateway)));
    }
    result
}

fn register_single_records(builder: RpcServerBuilder, main: &MainEngine) -> RpcServerBuilder {
    let [tick, order, trade, position, account, contract, quote] =
        core::array::from_fn(|_| main.oms().clone());
    builder
        .register(functions::GET_TICK, move |id: String| Ok(tick.tick(&id)))
        .register(functions::GET_ORDER, move |id: String| Ok(order.order(&id)))
        .register(functions::GET_TRADE, move |id: String| Ok(trade.trade(&id)))
        .register(functions::GET_POSITION, move |id: String| Ok(position.position(&id)))
        .register(functions::GET_ACCOUNT, move |id: String| Ok(account.account(&id)))
        .register(functions::GET_CONTRACT, move |id: String| Ok(contract.contract(&id)))
        .register(functions::GET_QUOTE, move |id: String| Ok(quote.quote(&id)))
}

fn register_lists(builder: RpcServerBuilder, main: &MainEngine) -> RpcServerBuilder {
    let [ticks, orders, trades, positions, accounts, contracts, quotes, active_orders, active_quotes] =
        core::array::from_fn(|_| main.oms().clone());
    builder
        .register(functions::GET_ALL_TICKS, move |()| Ok(ticks.ticks()))
        .register(functions::GET_ALL_ORDERS, move |()| Ok(orders.orders()))
        .register(functions::GET_ALL_TRADES, move |()| Ok(trades.trades()))
        .register(functions::GET_ALL_POSITIONS, move |()| Ok(positions.positions()))
        .register(functions::GET_ALL_ACCOUNTS, move |()| Ok(accounts.accounts()))
        .register(functions::GET_ALL_CONTRACTS, move |()| Ok(contracts.contracts()))
        .register(functions::GET_ALL_QUOTES, move |()| Ok(quotes.quotes()))
        .register(functions::GET_ALL_ACTIVE_ORDERS, move |of: Option<String>| {
            Ok(active_orders.active_orders(of.as_deref()))
        })
        .register(functions::GET_ALL_ACTIVE_QUOTES, move |of: Option<String>| {
            Ok(active_quotes.active_quotes(of.as_deref()))
        })
}

fn register_snapshots(
    builder: RpcServerBuilder,
    main: &MainEngine,
    head: &Arc<Head>,
    snapshots: &Arc<Snapshots>,
) -> RpcServerBuilder {
    let (main, head) = (main.clone(), Arc::clone(head));
    let (taken, kept) = (Arc::clone(snapshots), Arc::clone(snapshots));
    builder
        .register_on(SNAPSHOT, functions::SNAPSHOT, move |most_bytes| {
            let moment = moment(&main, &head)?;
            Ok(taken.begin(Instant::now(), moment, most_bytes)?)
        })
        .register_on(SNAPSHOT, functions::SNAPSHOT_PAGE, move |(id, at, most_bytes)| {
            Ok(kept.page(Instant::now(), id, at, most_bytes))
        })
}

/// The books and the place in the stream that they belong to. Taken on the event engine's thread, between two events: there
/// every event is either entered and published, or neither.
fn moment(main: &MainEngine, head: &Arc<Head>) -> FunctionResult<Moment> {
    let (sender, taken) = sync_channel(1);
    let (oms, head) = (main.oms().clone(), Arc::clone(head));
    main.event_engine().run_in_turn(move || {
        let moment =
            head.epoch.get().map(|epoch| Moment::of(&oms, *epoch, head.position.load(Ordering::SeqCst)));
        let _ = sender.send(moment); // Its caller may have waited long enough.
    })?;
    match taken.recv_timeout(SNAPSHOT_PATIENCE) {
        Ok(Some(moment)) => Ok(moment),
        Ok(None) => Err(NOT_STARTED.into()),
        Err(error) => Err(format!("the event engine did not come to it: {error}").into()),
    }
}

/// An order or a quote of this reference that has been reported.
fn in_books(main: &MainEngine, reference: &str) -> Option<Found> {
    let oms = main.oms();
    let order = oms.find_order(|order| order.reference == reference).map(|order| order.vt_orderid());
    let quote = || oms.find_quote(|quote| quote.reference == reference).map(|quote| quote.vt_quoteid());
    order.or_else(quote).map(Found::InBooks)
}

const NOT_STARTED: &str = "the service is starting";
