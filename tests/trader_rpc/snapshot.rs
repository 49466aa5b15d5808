//! Snapshots of any size: in pages, of one moment, and taken anew when that is gone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use pulsewire::trader::functions::{self, SnapshotPage};
use pulsewire::trader::*;
use pulsewire::{Limits, RpcClient, RpcServer, StreamOptions};

use crate::venue::*;

/// A server of small frames: 64 KiB, and pages of 16 KiB.
fn small_frames() -> RpcServiceOptions {
    let mut options = RpcServiceOptions::default();
    options.limits = Limits::tiny();
    options.main_stream = StreamOptions::default();
    options.ticks_stream = StreamOptions::default();
    options
}

/// So many orders, each with its trade: more than a frame of 64 KiB holds.
fn trade_many(served: &Served, count: usize) {
    for n in 0..count {
        while served.main.event_engine().stats().queued > 10_000 {
            std::thread::yield_now();
        }
        served.ctp.trade(&n.to_string());
    }
    reach(&served.main);
}

#[test]
fn snapshot_of_more_than_a_frame_comes_whole_while_events_go_on() {
    const BEFORE: usize = 3_000;
    let served = Served::with_options(small_frames());
    trade_many(&served, BEFORE);
    let (is_over, mut all) = (AtomicBool::new(false), BEFORE);
    let client = std::thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::SeqCst) {
                while served.main.event_engine().stats().queued > 100 {
                    std::thread::yield_now();
                }
                served.ctp.trade(&format!("meanwhile {sent}"));
                sent += 1;
            }
            sent
        });
        let (sender, trades) = std::sync::mpsc::channel();
        let main = MainEngine::new().unwrap();
        main.event_engine().register(EVENT_TRADE, move |event| {
            let Event::Trade(trade) = event else { panic!("{event:?}") };
            let _ = sender.send(trade.tradeid.clone());
        });
        let client = Client::made(main, RpcGateway::new, &served.address(), Setting::new());
        let is_live = client.rpc.wait_live(LONG);
        is_over.store(true, Ordering::SeqCst);
        all += hammer.join().unwrap();
        assert!(is_live);
        let mut seen = HashSet::new();
        while seen.len() < all {
            let trade = trades.recv_timeout(LONG).unwrap();
            assert!(seen.insert(trade.clone()), "{trade} came twice");
        }
        client
    });
    eventually("every order is finished", || {
        client.main.oms().orders().len() == all && client.main.oms().active_orders(None).is_empty()
    });
    // And asked for by hand: none of its pages is near a frame.
    let asked = RpcClient::connect(served.address()).unwrap();
    let first = asked.call(functions::SNAPSHOT, &u32::MAX).unwrap();
    let (mut next, mut pages, mut records) = (first.next, 1, first.records.len());
    while let Some(at) = next {
        let page = asked.call(functions::SNAPSHOT_PAGE, &(first.snapshot, at, u32::MAX)).unwrap().unwrap();
        assert_eq!((page.epoch, page.position, page.at), (first.epoch, first.position, at));
        (next, pages, records) = (page.next, pages + 1, records + page.records.len());
    }
    assert!(pages > 10, "{pages}");
    assert_eq!(records, 3 + 2 + 2 + 2 * all, "contracts, accounts, positions, orders and trades");
    assert_eq!(
        asked.call(functions::SNAPSHOT_PAGE, &(first.snapshot, 1, u32::MAX)),
        Ok(None),
        "it was fetched"
    );
}

#[test]
fn more_clients_than_snapshots_are_kept_all_become_live() {
    let served = Served::with_options(small_frames());
    trade_many(&served, 1_000);
    let clients: Vec<Client> = (0..24).map(|_| Client::new(&served.address(), Setting::new())).collect();
    for client in &clients {
        assert!(client.rpc.wait_live(LONG));
        eventually("all orders", || client.main.oms().orders().len() == 1_000);
    }
}

#[test]
fn record_that_fits_into_no_page_is_named_and_keeps_nobody_from_being_live() {
    let served = Served::with_options(small_frames());
    let account = AccountData::new("CTP", "x".repeat(40_000));
    served.ctp.context.on_account(account).unwrap();
    reach(&served.main);
    let client = Client::live(&served);
    client.hear_log("the server has 1 records that are too large to be sent");
    assert_eq!(client.main.oms().accounts().len(), 2);
}

/// A page with one account, named after its place.
fn page(epoch: u64, snapshot: u64, at: u64, next: Option<u64>) -> SnapshotPage {
    let account = AccountData::new("CTP", format!("{snapshot}-{at}"));
    SnapshotPage {
        epoch,
        position: 0,
        snapshot,
        at,
        next,
        left_out: 0,
        forgotten: 7,
        records: vec![account.into()],
    }
}

#[test]
fn snapshot_that_is_gone_before_its_last_page_is_taken_anew_and_nothing_of_it_is_put() {
    let epoch = Arc::new(AtomicU64::new(0));
    let (of_first, of_next) = (Arc::clone(&epoch), Arc::clone(&epoch));
    let taken = AtomicU64::new(0);
    let server = RpcServer::builder()
        .stream(TICKS_STREAM, StreamOptions::default())
        .register(functions::SNAPSHOT, move |_| {
            let snapshot = taken.fetch_add(1, Ordering::SeqCst);
            Ok(page(of_first.load(Ordering::SeqCst), snapshot, 0, Some(1)))
        })
        .register(functions::SNAPSHOT_PAGE, move |(snapshot, at, _)| {
            let epoch = of_next.load(Ordering::SeqCst);
            Ok(match snapshot {
                // Dropped; and of another life, which counts alike.
                0 => None,
                1 => Some(page(epoch + 1, snapshot, at, None)),
                _ => Some(page(epoch, snapshot, at, None)),
            })
        })
        .bind("127.0.0.1:0")
        .unwrap();
    epoch.store(server.epoch().unwrap(), Ordering::SeqCst);
    let client = Client::new(&server.local_addrs()[0].to_string(), Setting::new());
    client.hear_log("no snapshot: it was gone before its last page was fetched; trying again");
    assert!(client.rpc.wait_live(LONG));
    reach(&client.main);
    let accounts: Vec<String> =
        client.main.oms().accounts().iter().map(|account| account.accountid.clone()).collect();
    assert_eq!(accounts, ["CTP.2-0", "CTP.2-1"]);
    client.hear_log("the server has forgotten 7 records");
}

#[test]
fn each_event_that_is_not_understood_is_made_up_for_by_a_snapshot() {
    let taken = Arc::new(AtomicU64::new(0));
    let (epoch, taking) = (Arc::new(AtomicU64::new(0)), Arc::clone(&taken));
    let now = Arc::clone(&epoch);
    let server = RpcServer::builder()
        .stream(TICKS_STREAM, StreamOptions::default())
        .register(functions::SNAPSHOT, move |_| {
            Ok(page(now.load(Ordering::SeqCst), taking.fetch_add(1, Ordering::SeqCst), 0, None))
        })
        .bind("127.0.0.1:0")
        .unwrap();
    epoch.store(server.epoch().unwrap(), Ordering::SeqCst);
    let client = Client::new(&server.local_addrs()[0].to_string(), Setting::new());
    assert!(client.rpc.wait_live(LONG));
    for undecodable in 1..=3 {
        let before = taken.load(Ordering::SeqCst);
        server.publish_bytes("eOrder.CTP.1", &[0xFF; 4]).unwrap();
        eventually("it is counted", || client.rpc.status().undecodable == undecodable);
        eventually("a snapshot is put", || client.rpc.status().snapshots > before);
        assert!(client.rpc.wait_live(LONG));
        assert_eq!(taken.load(Ordering::SeqCst), before + 1);
        eventually("its record", || client.main.oms().account(&format!("RPC.CTP.{before}-0")).is_some());
    }
}
