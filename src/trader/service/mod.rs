//! The service: a main engine, served to other processes.

mod publisher;
mod register;
mod sent;
mod setting;
mod snapshots;

use core::fmt;
use core::net::SocketAddr;
use std::format;
use std::path::PathBuf;
use std::string::String;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::{HandlerId, LogLevel, MainEngine, PutError};
use crate::rpc::{BindError, Limits, PublisherStats, RpcServer, RpcServerStats, SlowPolicy, StreamOptions};
use publisher::{log_event, Counters, Head, Publisher};
use sent::Sent;
pub use setting::{RpcServiceSetting, RpcServiceSettingError};
use snapshots::Snapshots;

/// Type of the service's own log events: [`CustomData::Log`](super::CustomData::Log) in a custom event.
pub const EVENT_RPC_LOG: &str = "eRpcLog";

/// The stream that ticks are published on; everything else is on the main one.
pub const TICKS_STREAM: &str = "ticks";

/// Serves a main engine to other processes: its functions by call, its events by subscription. vn.py's `RpcEngine` of
/// `rpc_service`.
///
/// * **Functions** are in [`functions`](super::functions), with their lanes.
/// * **Events** are published each once, all but the timer, under their most specific type as topic (`eTick.rb2410.SHFE`,
///   `eOrder.CTP.5`): a prefix selects a kind, or one symbol of it. The data is the [`Event`](super::Event).
/// * **Ticks** are on a stream of their own, [`TICKS_STREAM`], so that their flood evicts no order.
/// * An event that cannot be published (its topic has more than 255 bytes, or it takes more than a quarter of its log) reaches
///   no client; it is counted and logged, and nobody else notices.
/// * Its own log events are of the type [`EVENT_RPC_LOG`].
///
/// It stops when it is dropped, and should be stopped before the main engine is closed: it holds a handle of it. Threads:
/// the server's driver, and five lanes.
///
/// ```
/// use pulsewire::trader::{MainEngine, RpcService, RpcServiceSetting};
///
/// let main = MainEngine::new()?;
/// let service = RpcService::new(&main);
/// service.start(&RpcServiceSetting::new("127.0.0.1:0", ""))?; // Port 0: any that is free.
/// assert!(service.is_running());
/// service.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RpcService {
    main: MainEngine,
    options: RpcServiceOptions,
    counters: Arc<Counters>,
    running: Mutex<Option<Running>>,
}

struct Running {
    server: RpcServer,
    handler: HandlerId,
    setting: RpcServiceSetting,
}

/// What a service is to be, beside where it listens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RpcServiceOptions {
    /// The server's limits. Default: [`Limits::default`]. A history, and each answer that lists
    /// all of a kind, has to fit into `max_frame_bytes`; snapshots come in pages.
    pub limits: Limits,
    /// The main stream: orders, trades, positions, accounts, quotes, contracts, logs.
    ///
    /// Default: a log of 16 MiB and 262 144 messages, some 100 000 order events, so that a client that was away for a
    /// while, or is slow, gets all of them; one that is lapped goes on from the oldest and takes a new snapshot. It never
    /// blocks: that would be the event engine that waits, and with it all that trades here.
    pub main_stream: StreamOptions,
    /// The stream of ticks.
    ///
    /// Default: who is lapped goes on from the newest, since a price that is a whole log old is of no use to anybody who
    /// acts on it; the last tick of each symbol is kept for those who come, or have missed some.
    pub ticks_stream: StreamOptions,
    /// The file that the setting is saved to after each successful start, as vn.py does. Default: none.
    pub setting_file: Option<PathBuf>,
}

impl Default for RpcServiceOptions {
    fn default() -> Self {
        RpcServiceOptions {
            limits: Limits::default(),
            main_stream: StreamOptions::default().log_bytes(16 * 1024 * 1024).log_messages(262_144),
            ticks_stream: StreamOptions::default().policy(SlowPolicy::SkipToNewest).last_value(true),
            setting_file: None,
        }
    }
}

/// References of sent orders and quotes that are remembered, for clients whose answer got lost. Some 10 MiB.
const MOST_SENT: usize = 65_536;

impl RpcService {
    /// A service of this main engine, not started yet.
    pub fn new(main: &MainEngine) -> Self {
        Self::with_options(main, RpcServiceOptions::default())
    }

    /// A service that is set up otherwise.
    pub fn with_options(main: &MainEngine, options: RpcServiceOptions) -> Self {
        let counters = Arc::new(Counters::default());
        RpcService { main: main.clone(), options, counters, running: Mutex::new(None) }
    }

    /// Begins to serve. May be called again after a stop, with the same setting or another one; to clients that is a
    /// restart.
    ///
    /// # Errors
    /// It runs already, the setting makes no sense, or the addresses cannot be listened on.
    pub fn start(&self, setting: &RpcServiceSetting) -> Result<(), RpcServiceError> {
        let mut running = self.lock();
        if running.is_some() {
            return Err(RpcServiceError::AlreadyRunning);
        }
        let server_and_handler = self.serve(setting);
        match server_and_handler {
            Ok((server, handler)) => {
                let addresses = server.local_addrs();
                *running = Some(Running { server, handler, setting: setting.clone() });
                drop(running);
                self.say(LogLevel::Info, format!("serving at {}", listed(&addresses)));
                self.save(setting);
                Ok(())
            }
            Err(error) => {
                drop(running);
                self.say(LogLevel::Error, format!("cannot start: {error}"));
                Err(error)
            }
        }
    }

    fn serve(&self, setting: &RpcServiceSetting) -> Result<(RpcServer, HandlerId), RpcServiceError> {
        let (address, second) = setting.addresses()?;
        let (head, sent) = (Arc::new(Head::default()), Arc::new(Sent::new(MOST_SENT)));
        let options = &self.options;
        let mut builder = RpcServer::builder()
            .limits(options.limits.clone())
            .main_stream(options.main_stream)
            .stream(TICKS_STREAM, options.ticks_stream);
        if setting.allow_plaintext {
            builder = builder.allow_plaintext();
        }
        let snapshots = Arc::new(Snapshots::new(options.limits.max_frame_bytes));
        let builder = register::register(builder, &self.main, &head, &sent, &snapshots);
        let server = match second {
            None => builder.bind(address)?,
            Some(second) => builder.bind_both(address, second)?,
        };
        let ticks = server
            .stream(TICKS_STREAM)
            .map_err(|error| BindError::Stream { name: TICKS_STREAM.into(), error })?;
        let events = self.main.event_engine().clone();
        let mut publisher = Publisher::new(
            server.clone(),
            ticks,
            Arc::clone(&head),
            Arc::clone(&self.counters),
            events,
            snapshots,
        );
        let handler = self.main.event_engine().register_general(move |event| publisher.handle_event(event));
        // From here on every event that the books get is published, so that a snapshot has a place.
        if let Some(epoch) = server.epoch() {
            let _ = head.epoch.set(epoch);
        }
        Ok((server, handler))
    }

    fn save(&self, setting: &RpcServiceSetting) {
        let Some(path) = &self.options.setting_file else { return };
        if let Err(error) = setting.save(path) {
            self.say(LogLevel::Warning, format!("the setting was not saved to {}: {error}", path.display()));
        }
    }

    /// Ends it: clients are told, and connect again when it is started again. What the event engine has not handed out
    /// yet is not published. Twice is harmless.
    pub fn stop(&self) {
        let Some(running) = self.lock().take() else { return };
        self.main.event_engine().unregister(running.handler);
        running.server.stop();
        self.say(LogLevel::Info, String::from("stopped"));
    }

    /// It has been started, and not stopped.
    pub fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// The setting that it runs with.
    pub fn setting(&self) -> Option<RpcServiceSetting> {
        self.lock().as_ref().map(|running| running.setting.clone())
    }

    /// Where it listens: the first is `rep_address`. None while it is stopped.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.lock().as_ref().map(|running| running.server.local_addrs()).unwrap_or_default()
    }

    /// This life of the server, as clients see it. `None` while it is stopped.
    pub fn epoch(&self) -> Option<u64> {
        self.lock().as_ref().and_then(|running| running.server.epoch())
    }

    /// Puts a log event of its own, [`EVENT_RPC_LOG`].
    ///
    /// # Errors
    /// It has reached nobody.
    pub fn write_log(&self, level: LogLevel, msg: impl Into<String>) -> Result<(), PutError> {
        self.main.event_engine().put(log_event(level, msg))
    }

    /// What has been counted.
    pub fn stats(&self) -> RpcServiceStats {
        let server = self.lock().as_ref().map(|running| running.server.clone());
        let ticks = server.as_ref().and_then(|server| server.stream(TICKS_STREAM).ok());
        RpcServiceStats {
            published: self.counters.published.load(Ordering::Relaxed),
            ticks: self.counters.ticks.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            server: server.map(|server| server.stats()).unwrap_or_default(),
            ticks_stream: ticks.map(|ticks| ticks.stats()).unwrap_or_default(),
        }
    }

    /// What an operator should know, to the event engine and to the log.
    fn say(&self, level: LogLevel, msg: String) {
        log::debug!("rpc-service: {msg}");
        // An engine that is closed has nobody left who would read it.
        let _ = self.write_log(level, msg);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(|address| format!("{address}")).collect();
    texts.join(" and ")
}

impl fmt::Debug for RpcService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcService").field("local", &self.local_addrs()).finish_non_exhaustive()
    }
}

impl Drop for RpcService {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a service was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcServiceError {
    /// It runs.
    #[error("the service is running")]
    AlreadyRunning,
    /// The setting makes no sense.
    #[error(transparent)]
    Setting(#[from] RpcServiceSettingError),
    /// The addresses cannot be listened on, the limits do not fit together, or there are no threads.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// What a service counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RpcServiceStats {
    /// Events published on the main stream, over all lives.
    pub published: u64,
    /// Ticks published, over all lives.
    pub ticks: u64,
    /// Events that could not be published, over all lives.
    pub failed: u64,
    /// The server in this life; its publisher is the main stream.
    pub server: RpcServerStats,
    /// The stream of ticks in this life.
    pub ticks_stream: PublisherStats,
}
