//! What a seed means.

use pulsewire::pattern::{Limits, Reconnect};
use pulsewire::time::Duration;

use super::dice::Dice;
use super::driver::Habits;
use super::lifeline::Schedule;
use super::network::{Network, Weather};
use super::oracle::{Oracle, Visits};
use super::process::{Caller, Calls, Follower, Host, Process, Reading, Service, Setup};
use super::streams::{self, Plan};
use super::trouble::{Kinds, Troubles};
use super::world::World;
use super::Report;

/// A way to choose limits, habits and troubles by a seed.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Lives through the schedule of a seed.
    pub run: fn(u64) -> Report,
    /// How many of its seeds `cargo test` runs.
    pub seeds: u64,
}

impl Scenario {
    /// Its share of so many seeds of all scenarios: as among those that `cargo test` runs, and the first has the rest.
    pub fn share_of(&self, all: u64) -> u64 {
        let everybody: u64 = ALL.iter().map(|scenario| scenario.seeds).sum();
        let share = |scenario: &Scenario| all * scenario.seeds / everybody;
        match self.name == ALL[0].name {
            true => all - ALL[1..].iter().map(|other| share(other)).sum::<u64>(),
            false => share(self),
        }
    }
}

/// The scenarios that there are.
pub const ALL: [&Scenario; 3] = [&MIXED, &FORGETFUL, &ABRUPT];

/// So many seeds are run at the least by `cargo test`.
pub const FEWEST_SEEDS: u64 = 2_000;

/// Everything at once: one or two servers that come and go, callers, followers, and all troubles of the network.
pub const MIXED: Scenario = Scenario { name: "mixed", run: |seed| live(seed, Theme::Mixed), seeds: 1_000 };

/// The same with servers that forget lost sessions soon, or at once, or all but one.
pub const FORGETFUL: Scenario =
    Scenario { name: "forgetful", run: |seed| live(seed, Theme::Forgetful), seeds: 1_000 };

/// Connections that end again and again while much is under way on them, and come back at once.
pub const ABRUPT: Scenario = Scenario { name: "abrupt", run: |seed| live(seed, Theme::Abrupt), seeds: 500 };

/// What a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    Mixed,
    Forgetful,
    Abrupt,
}

fn live(seed: u64, theme: Theme) -> Report {
    let mut dice = Dice::new(seed);
    let addresses = dice.index(2) + 1;
    let most_followers = if theme == Theme::Abrupt { 2 } else { 3 };
    let (callers, followers) = (dice.between(1, 2), dice.between(1, most_followers));
    let mut limits = limits(&mut dice, theme);
    // Strangers may fill the house for a while.
    limits.max_connections = u32::try_from(callers + followers + *dice.pick(&[1, 3, 20])).unwrap();
    let plans = Plan::some(&mut dice, &limits);
    let remembers_all = u64::from(limits.max_detached) >= 4 * (callers + followers);
    let visits = Visits::new(limits.session_keep, remembers_all);
    let (streams, oracle) = (plans.len(), Oracle::new(plans.clone(), visits));
    let weather = weather(&mut dice, theme);
    let network = Network::new(weather, addresses, dice.split());
    let hosts = (0..addresses).map(|address| {
        let habits = host_habits(&mut dice, theme);
        let service = service(&mut dice, theme);
        Host::new(address, address, limits.clone(), habits, service, plans.clone(), dice.split())
    });
    let hosts: Vec<Host> = hosts.collect();
    let mut clients: Vec<Box<dyn Process>> = Vec::new();
    for client in 0..callers + followers {
        let setup = Setup {
            node: hosts.len() + clients.len(),
            limits: limits.clone(),
            schedule: schedule(&mut dice, theme),
            addresses,
            habits: habits(&mut dice),
            dice: dice.split(),
        };
        clients.push(match client < callers {
            true => Box::new(Caller::new(setup, calls(&mut dice, theme))),
            false => Box::new(Follower::new(setup, reading(&mut dice, theme, streams), &oracle)),
        });
    }
    World::new(network, oracle, hosts, clients, troubles(&mut dice, theme), dice.split()).run()
}

fn weather(dice: &mut Dice, theme: Theme) -> Weather {
    let longest_delay = if theme == Theme::Abrupt { 40_000 } else { 200_000 };
    Weather {
        longest_delay_us: *dice.pick(&[500, 5_000, longest_delay]),
        window: *dice.pick(&[512, 4_096, 65_536]),
        short_writes: *dice.pick(&[0, 50, 500]),
    }
}

fn troubles(dice: &mut Dice, theme: Theme) -> Troubles {
    match theme {
        Theme::Mixed | Theme::Forgetful => Troubles {
            lasts: dice.millis(3_000, 25_000),
            pause_ms: *dice.pick(&[(50, 300), (200, 3_000), (2_000, 8_000)]),
            longest_ms: 9_000,
            kinds: if dice.permille(100) { Kinds::NONE } else { Kinds::some(dice) },
        },
        Theme::Abrupt => Troubles {
            lasts: dice.millis(8_000, 20_000),
            pause_ms: *dice.pick(&[(10, 100), (50, 600)]),
            longest_ms: *dice.pick(&[200, 600, 6_000]),
            kinds: Kinds::abrupt(dice),
        },
    }
}

fn limits(dice: &mut Dice, theme: Theme) -> Limits {
    let mut limits = Limits::tiny();
    let fewest_messages = if theme == Theme::Abrupt { 60 } else { 4 };
    limits.log_messages = *dice.pick(&[fewest_messages, 30, 300]);
    limits.log_bytes = *dice.pick(&[16 * 1024, 64 * 1024]);
    limits.max_in_flight = *dice.pick(&[2, 16, 64]);
    limits.max_half_open = 4;
    // A server that is short of memory for answers forgets records, and nobody here would know of which.
    limits.send_queues_bytes = 16 * 1024 * 1024;
    limits.heartbeat_interval = Duration::from_millis(1_000);
    limits.heartbeat_timeout = Duration::from_millis(4_000);
    limits.handshake_timeout = Duration::from_secs(2);
    limits.not_reading_timeout = Duration::from_secs(*dice.pick(&[3, 12]));
    limits.frame_progress_timeout = Duration::from_secs(10);
    limits.inbox_bytes = match theme {
        Theme::Abrupt => *dice.pick(&[500, 2_000, 1_000_000]),
        _ => *dice.pick(&[500, 10_000, 1_000_000]),
    };
    // For how long, and how many sessions, a server remembers that have no connection.
    let (keep, detached) = match theme {
        Theme::Mixed => (4_000, limits.max_detached),
        Theme::Forgetful => (*dice.pick(&[0, 500, 4_000]), *dice.pick(&[0, 1, 16])),
        Theme::Abrupt => (*dice.pick(&[100, 600, 12_000, 12_000]), *dice.pick(&[1, 16, 16])),
    };
    (limits.session_keep, limits.max_detached) = (Duration::from_millis(keep), detached);
    let few_positions = if theme == Theme::Abrupt { 80 } else { streams::ROOMY_BYTES };
    limits.positions_bytes = *dice.pick(&[40, 200, few_positions, streams::ROOMY_BYTES]);
    limits.max_streams = streams::MOST;
    limits.block_timeout = Duration::from_millis(*dice.pick(&[50, 1_000, 5_000]));
    limits.partial_frames_bytes = *dice.pick(&[6_000, 100_000]);
    limits.results_bytes = *dice.pick(&[2_000, 100_000]);
    limits.queued_arguments_bytes = *dice.pick(&[2_000, 100_000]);
    limits
}

fn schedule(dice: &mut Dice, theme: Theme) -> Schedule {
    let schedule = |policy, least, most| Schedule {
        policy,
        least: Duration::from_millis(least),
        most: Duration::from_millis(most),
    };
    let policies = if theme == Theme::Abrupt { 3 } else { 4 };
    match dice.index(policies) {
        0 => schedule(Reconnect::zmq(1, 0), 1, 1),
        1 => schedule(Reconnect::zmq(10, 1_000), 10, 1_000),
        2 => schedule(Reconnect::zmq(100, 0), 100, 199),
        _ => schedule(Reconnect::default(), 50, 5_000),
    }
}

fn habits(dice: &mut Dice) -> Habits {
    Habits {
        oversleep_us: *dice.pick(&[1, 1_000, 200_000]),
        read_bytes: *dice.pick(&[6, 60, 300, 65_536, 65_536]),
        holds: *dice.pick(&[0, 20, 500]),
        longest_hold_ms: *dice.pick(&[300, 300, 8_000]),
        fidgets: *dice.pick(&[0, 100]),
    }
}

fn host_habits(dice: &mut Dice, theme: Theme) -> Habits {
    // A held chunk holds up heartbeats as well.
    let longest_hold_ms = if theme == Theme::Abrupt { 1_000 } else { 300 };
    Habits { longest_hold_ms, ..habits(dice) }
}

fn service(dice: &mut Dice, theme: Theme) -> Service {
    let service = Service {
        longest_call_ms: *dice.pick(&[1, 20, 1_000]),
        largest_result: *dice.pick(&[10, 500, 20_000]),
        publish_every_ms: *dice.pick(&[50, 300, 2_000]),
        largest_burst: *dice.pick(&[1, 10, 80]),
        largest_publication: *dice.pick(&[10, 200, 4_000]),
    };
    match theme {
        Theme::Abrupt => Service {
            longest_call_ms: *dice.pick(&[20, 1_000, 6_000]),
            publish_every_ms: *dice.pick(&[50, 1_000, 1_000]),
            largest_burst: *dice.pick(&[5, 20, 80]),
            ..service
        },
        _ => service,
    }
}

fn calls(dice: &mut Dice, theme: Theme) -> Calls {
    let calls = Calls {
        every_ms: *dice.pick(&[80, 400, 3_000]),
        largest_burst: *dice.pick(&[0, 5, 80]),
        largest_arguments: *dice.pick(&[0, 100, 9_000]),
        longest_timeout_ms: *dice.pick(&[20, 1_000, 20_000]),
        idempotent: *dice.pick(&[0, 200, 900]),
        rests: *dice.pick(&[0, 0, 20]),
    };
    match theme {
        Theme::Abrupt => Calls { every_ms: 80, longest_timeout_ms: *dice.pick(&[1_000, 20_000]), ..calls },
        _ => calls,
    }
}

fn reading(dice: &mut Dice, theme: Theme, streams: usize) -> Reading {
    let reading = Reading {
        stream: dice.index(streams),
        snapshots: dice.permille(500),
        every_ms: *dice.pick(&[10, 100, 2_000]),
        changes: *dice.pick(&[0, 20, 500]),
        rests: *dice.pick(&[0, 0, 10]),
        refreshes: *dice.pick(&[0, 0, 100]),
        deaths: *dice.pick(&[0, 0, 5, 50]),
    };
    match theme {
        // What lies in the kernel when a connection ends is lost.
        Theme::Abrupt => Reading { every_ms: *dice.pick(&[10, 2_000, 2_000]), ..reading },
        _ => reading,
    }
}
