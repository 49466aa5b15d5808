//! Orders and ticks over real sockets between real processes, while connections are cut in every way that a machine can
//! do to itself: at the end all accounts are exact.
//!
//! The server runs in a process of its own, and is killed and started again on its port. Most clients reach it
//! through a relay that cuts what passes at a byte that the seed chooses. Orders have ids, and the server writes down in
//! a file which it executes; a publication says its number and the server's life, and everybody knows what it must be.
//!
//! `PULSEWIRE_CUTS=1000 cargo test --release --test cuts -- --nocapture` is the long run; `PULSEWIRE_CUTS_SEED` is
//! printed, and may be given. The seed decides what is cut and when, in bytes; it does not decide what the machine does
//! meanwhile.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the tests' own.

mod account;
mod books;
mod callers;
mod director;
mod exchange;
mod feed;
mod followers;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pulsewire::rpc::CallOptions;
use pulsewire::{Reconnect, RpcClient};

use account::{Account, Tally};
use books::{Balance, Ended, Journal, Scratch};
use callers::{seed, Caller, THREADS};
use director::Director;
use exchange::{Log, QUIET};
use followers::{Follower, Manner};
use support::{part, LONG};
use watch::Watch;

/// The defaults; the environment may ask for others.
const CUTS: u64 = 100;
const SEED: u64 = 0x5eed;

/// Followers: the client of each, and how it reads which topics.
const FOLLOWERS: [(usize, &str, Manner, &str); 7] = [
    (0, "everything", Manner::Quick, ""),
    (1, "one prefix", Manner::Quick, "tick."),
    (1, "changing", Manner::Changing, "tick.ag"),
    (2, "slow, everything", Manner::Slow, ""),
    (2, "slow, one prefix", Manner::Slow, "tick."),
    (DIRECT, "direct, everything", Manner::Quick, ""),
    (DIRECT, "direct, changing", Manner::Changing, "tick.ag"),
];
/// Clients that call.
const CALLING: [usize; 3] = [0, 1, DIRECT];
/// The client that goes to the server itself.
const DIRECT: usize = 3;

fn asked_for(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn accounts_are_exact_after_a_hundred_cuts_of_every_kind() {
    let (cuts, from) = (asked_for("PULSEWIRE_CUTS", CUTS), asked_for("PULSEWIRE_CUTS_SEED", SEED));
    println!("PULSEWIRE_CUTS_SEED={from}");
    let scratch = Scratch::new();
    let watch = Watch::new(CALLING.len() * THREADS as usize, FOLLOWERS.len());
    let quick = (0..FOLLOWERS.len()).filter(|number| FOLLOWERS[*number].2 != Manner::Slow).collect();
    let mut director = Director::new(&scratch.0, &watch, quick, seed(from, 0));
    let begun = Instant::now();
    let (ended, accounts) = play(&mut director, cuts, from, &watch);
    let (lives, took) = (director.lives(), begun.elapsed().as_secs_f64());
    let made = director.end();
    let all = made.values().sum::<u64>();
    let losses = watch.0.losses.load(Ordering::Relaxed);
    println!("seed {from}: {all} cuts in {took:.1} s: {made:?}; {losses} connections lost, {lives} lives of the server");
    // From here on nothing is executed any more.
    let balance = Balance::of(&ended, &Journal::read(&scratch.0));
    println!("seed {from}: {balance}");
    let (sum, differences) = add_up(&accounts);
    println!(
        "seed {from}: {} publications matching = {} received + {} lost; differences = {differences}",
        sum.matching, sum.received, sum.lost
    );
    assert_eq!(watch.wrongs(), [""; 0], "seed {from}");
    assert_eq!((balance.wrong.as_slice(), balance.doubled, differences), (&[][..], 0, 0), "seed {from}");
    assert_eq!(all, cuts, "seed {from}");
    assert!(
        balance.values > 0 && balance.unknown > 0 && sum.received > 0,
        "seed {from}: nothing much happened"
    );
}

/// Has everybody call and follow while the director cuts, until all is accounted for that was published.
fn play(
    director: &mut Director,
    cuts: u64,
    from: u64,
    watch: &Watch,
) -> (Vec<Ended>, Vec<(&'static str, Account)>) {
    let clients = &clients(director, watch);
    std::thread::scope(|scope| {
        let over = watch.until_dropped();
        let follow = |number: usize| {
            let (client, name, manner, prefix) = FOLLOWERS[number];
            let subscription = clients[client].subscribe(prefix).unwrap();
            let random = seed(from, 100 + number as u64);
            let follower = Follower::new((number, name, manner), prefix, subscription, watch, random);
            scope.spawn(|| follower.run())
        };
        let followers: Vec<_> = (0..FOLLOWERS.len()).map(follow).collect();
        let call = |number: u64| {
            let client = &clients[CALLING[(number / THREADS) as usize]];
            let caller = Caller { number, client, watch, random: seed(from, 200 + number) };
            scope.spawn(|| caller.run())
        };
        let callers: Vec<_> = (0..CALLING.len() as u64 * THREADS).map(call).collect();
        director.make(cuts);
        drop(over);
        let ended = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        // What was cut may still come to an end under it, and it says the same when it is asked again.
        let options = CallOptions::new().timeout(LONG).idempotent();
        match clients[DIRECT].call_with(QUIET, &(), options) {
            Ok((epoch, published)) => watch.set_end(epoch, published),
            Err(error) => watch.wrong(format!("quiet: {error}")),
        }
        (ended, followers.into_iter().map(|follower| follower.join().unwrap()).collect())
    })
}

/// What the accounts come to, and what is missing or too much in any of them.
fn add_up(accounts: &[(&str, Account)]) -> (Tally, u64) {
    let (mut sum, mut differences) = (Tally::default(), 0);
    for (name, account) in accounts {
        let lives = account.tallies().count();
        let own = account.tallies().fold(Tally::default(), Tally::plus);
        println!(
            "{name}: {} matching = {} received + {} lost, in {lives} lives; {} changes of the set",
            own.matching,
            own.received,
            own.lost,
            account.changes()
        );
        differences += account.tallies().map(|tally| tally.difference()).sum::<u64>();
        sum = sum.plus(own);
    }
    (sum, differences)
}

/// Two clients through the relay that call, one that reads slowly, and one that goes to the server itself.
fn clients(director: &Director, watch: &Watch) -> [RpcClient; 4] {
    let relay = director.relay_addr();
    let quickly = Reconnect::backoff(Duration::from_millis(5), Duration::from_millis(100));
    const INBOX: u64 = 4 << 20;
    [
        callers::client(relay, quickly, INBOX, watch),
        callers::client(relay, Reconnect::zmq(10, 0), INBOX, watch),
        callers::client(relay, quickly, 32 * 1024, watch),
        callers::client(director.server_addr(), quickly, INBOX, watch),
    ]
}

/// Not a test of its own: what the process does that the other one starts.
#[test]
fn plays_a_part() {
    let Some(part) = part() else { return };
    match part.splitn(4, ' ').collect::<Vec<_>>()[..] {
        ["exchange", port, life, journal] => {
            exchange::play(port, Log::of(life.parse().unwrap()), Path::new(journal));
        }
        _ => panic!("no part {part}"),
    }
}
