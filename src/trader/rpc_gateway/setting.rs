//! What a gateway connects with.

use std::format;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use crate::rpc::{Address, AddressError};
use crate::trader::{Refusal, Setting};

/// What a gateway connects with, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatewaySetting {
    /// Where calls go.
    pub(super) rep_address: Address,
    /// Where events come from, if not from there.
    pub(super) pub_address: Option<Address>,
    /// Prefixes of event types that are wanted, in the server's names. Invariant: not empty.
    pub(super) events: Vec<String>,
    /// All ticks that the server has, not only those that were asked for here.
    pub(super) all_ticks: bool,
    /// The one gateway of the server that this one stands for; all of them if it is not given.
    pub(super) remote_gateway: Option<String>,
    /// For orders, cancels, quotes and subscriptions.
    pub(super) request_timeout: Duration,
}

const REP_ADDRESS: &str = "rep_address";
const PUB_ADDRESS: &str = "pub_address";
const EVENTS: &str = "events";
const TICKS: &str = "ticks";
const REMOTE_GATEWAY: &str = "remote_gateway";
const REQUEST_TIMEOUT_MS: &str = "request_timeout_ms";

const ASKED: &str = "asked";
const ALL: &str = "all";

/// The setting to begin with: the addresses that a service has by default.
pub(super) fn default_setting() -> Setting {
    Setting::new()
        .with(REP_ADDRESS, "tcp://127.0.0.1:2014")
        .with(PUB_ADDRESS, "tcp://127.0.0.1:4102")
        .with(EVENTS, std::vec![""])
        .with(TICKS, ASKED)
        .with(REMOTE_GATEWAY, "")
        .with(REQUEST_TIMEOUT_MS, 5_000)
}

impl GatewaySetting {
    /// What is not given has its default, but for `pub_address`: without it the other one is enough.
    pub(super) fn read(setting: &Setting) -> Result<Self, Refusal> {
        let mut found = GatewaySetting {
            rep_address: address(REP_ADDRESS, setting.text(REP_ADDRESS)?)?,
            pub_address: None,
            events: std::vec![String::new()],
            all_ticks: false,
            remote_gateway: None,
            request_timeout: Duration::from_secs(5),
        };
        for key in setting.keys() {
            match key {
                REP_ADDRESS => {}
                PUB_ADDRESS => {
                    let text = setting.text(key)?;
                    found.pub_address = (!text.is_empty()).then(|| address(PUB_ADDRESS, text)).transpose()?;
                }
                EVENTS => found.events = prefixes(setting)?,
                TICKS => {
                    found.all_ticks = match setting.text(key)? {
                        ASKED => false,
                        ALL => true,
                        other => {
                            return Err(bad(format!("{TICKS:?} is {other:?}, not {ASKED:?} or {ALL:?}")))
                        }
                    }
                }
                REMOTE_GATEWAY => {
                    let name = setting.text(key)?;
                    found.remote_gateway = (!name.is_empty()).then(|| name.to_string());
                }
                REQUEST_TIMEOUT_MS => {
                    let millis = u64::try_from(setting.integer(key)?).ok().filter(|millis| *millis > 0);
                    let millis =
                        millis.ok_or_else(|| bad(format!("{REQUEST_TIMEOUT_MS:?} is not above 0")))?;
                    found.request_timeout = Duration::from_millis(millis);
                }
                unknown => return Err(bad(format!("unknown {unknown:?}"))),
            }
        }
        Ok(found)
    }

    /// Whether an event of this type, in the server's names, is wanted.
    pub(super) fn wants(&self, event_type: &str) -> bool {
        self.events.iter().any(|prefix| event_type.starts_with(&**prefix))
    }

    /// Whether everything is.
    pub(super) fn wants_everything(&self) -> bool {
        self.events.iter().any(String::is_empty)
    }
}

fn address(key: &str, text: &str) -> Result<Address, Refusal> {
    text.parse().map_err(|error: AddressError| bad(format!("{key:?}: {error}")))
}

fn prefixes(setting: &Setting) -> Result<Vec<String>, Refusal> {
    let not_a_list = || bad(format!("{EVENTS:?} is not a list of texts"));
    let list = setting.value(EVENTS).and_then(|value| value.as_array()).ok_or_else(not_a_list)?;
    let mut prefixes = Vec::new();
    for prefix in list {
        prefixes.push(prefix.as_str().ok_or_else(not_a_list)?.to_string());
    }
    match prefixes.is_empty() {
        true => Err(bad(format!("{EVENTS:?} is empty: [\"\"] is everything"))),
        false => Ok(prefixes),
    }
}

fn bad(why: String) -> Refusal {
    Refusal::BadSetting(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<GatewaySetting, Refusal> {
        GatewaySetting::read(&json.parse().unwrap())
    }

    #[test]
    fn default_setting_is_a_good_one_and_the_address_is_enough() {
        let default = GatewaySetting::read(&default_setting()).unwrap();
        assert!(default.pub_address.is_some() && default.wants_everything() && !default.all_ticks);
        let short = read(r#"{"rep_address": "tcp://127.0.0.1:2014"}"#).unwrap();
        assert_eq!(short, GatewaySetting { pub_address: None, ..default });
    }

    #[test]
    fn kinds_and_symbols_are_prefixes() {
        let some = read(r#"{"rep_address": "localhost:1", "events": ["eOrder.", "eTrade.rb2410.SHFE"]}"#);
        let some = some.unwrap();
        assert!(!some.wants_everything() && some.wants("eOrder.CTP.1") && some.wants("eTrade.rb2410.SHFE"));
        assert!(!some.wants("eTrade.cu2410.SHFE") && !some.wants("eLog"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (more, expected) in [
            (r#""rep_adress": "x""#, "unknown \"rep_adress\""),
            (r#""ticks": "some""#, "\"ticks\" is \"some\", not \"asked\" or \"all\""),
            (r#""events": "eTick.""#, "\"events\" is not a list of texts"),
            (r#""events": [1]"#, "\"events\" is not a list of texts"),
            (r#""events": []"#, "\"events\" is empty: [\"\"] is everything"),
            (r#""request_timeout_ms": 0"#, "\"request_timeout_ms\" is not above 0"),
            (r#""remote_gateway": 7"#, "\"remote_gateway\" in the setting is not a text"),
        ] {
            let found = read(&format!(r#"{{"rep_address": "127.0.0.1:2014", {more}}}"#));
            let Err(Refusal::BadSetting(why)) = found else { panic!("{more}: {found:?}") };
            assert!(why.ends_with(expected), "{why}");
        }
        let Err(Refusal::BadSetting(why)) = read("{}") else { panic!("no address") };
        assert_eq!(why, "the setting has no \"rep_address\"");
        assert!(matches!(read(r#"{"rep_address": "2014"}"#), Err(Refusal::BadSetting(_))));
    }
}
