//! What a paper exchange connects with.

use std::format;
use std::path::PathBuf;
use std::string::String;

use super::entry::Terms;
use super::ledger::VERSION;
use crate::trader::{Refusal, Setting, SettingError};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PaperSetting {
    /// `None`: in memory alone.
    pub(super) ledger: Option<PathBuf>,
    pub(super) terms: Terms,
    pub(super) syncs: bool,
}

const LEDGER: &str = "ledger";
const BALANCE: &str = "balance";
const MARGIN_RATE: &str = "margin_rate";
const FEE_RATE: &str = "fee_rate";
const FSYNC: &str = "fsync";
const KEYS: [&str; 5] = [LEDGER, BALANCE, MARGIN_RATE, FEE_RATE, FSYNC];

impl Default for PaperSetting {
    fn default() -> Self {
        let terms = Terms { version: VERSION, balance: 1e6, margin_rate: 1.0, fee_rate: 0.0 };
        PaperSetting { ledger: None, terms, syncs: false }
    }
}

impl PaperSetting {
    /// Reads what is there, and takes the defaults for the rest.
    ///
    /// # Errors
    /// A name that means nothing here, a value of the wrong type, or a number below 0.
    pub(super) fn read(setting: &Setting) -> Result<Self, Refusal> {
        if let Some(key) = setting.keys().find(|key| !KEYS.contains(key)) {
            return Err(Refusal::BadSetting(format!("{key:?} means nothing here; there are {KEYS:?}")));
        }
        let default = PaperSetting::default();
        let number = |key, default| match or_default(setting.number(key), default)? {
            number if number >= 0.0 && number.is_finite() => Ok(number),
            number => Err(Refusal::BadSetting(format!("{key:?} is {number}, which is below 0"))),
        };
        let ledger = or_default(setting.text(LEDGER), "")?;
        Ok(PaperSetting {
            ledger: (!ledger.is_empty()).then(|| ledger.into()),
            terms: Terms {
                version: VERSION,
                balance: number(BALANCE, default.terms.balance)?,
                margin_rate: number(MARGIN_RATE, default.terms.margin_rate)?,
                fee_rate: number(FEE_RATE, default.terms.fee_rate)?,
            },
            syncs: or_default(setting.flag(FSYNC), default.syncs)?,
        })
    }

    pub(super) fn to_setting(&self) -> Setting {
        let ledger = self.ledger.as_ref().map_or(String::new(), |path| format!("{}", path.display()));
        Setting::new()
            .with(LEDGER, ledger)
            .with(BALANCE, self.terms.balance)
            .with(MARGIN_RATE, self.terms.margin_rate)
            .with(FEE_RATE, self.terms.fee_rate)
            .with(FSYNC, self.syncs)
    }
}

fn or_default<T>(found: Result<T, SettingError>, default: T) -> Result<T, Refusal> {
    match found {
        Err(SettingError::Missing(_)) => Ok(default),
        found => Ok(found?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_shown_is_read_again() {
        assert_eq!(PaperSetting::read(&Setting::new()), Ok(PaperSetting::default()));
        let terms = Terms { version: VERSION, balance: 5.0, margin_rate: 0.1, fee_rate: 0.0002 };
        let setting = PaperSetting { ledger: Some("a/b.jsonl".into()), terms, syncs: true };
        assert_eq!(PaperSetting::read(&setting.to_setting()), Ok(setting));
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        for (key, value, why) in [
            ("ledgre", 1.into(), "\"ledgre\" means nothing"),
            ("balance", (-1).into(), "\"balance\" is -1"),
            ("fee_rate", serde_json::Value::from("much"), "\"fee_rate\" in the setting is not a number"),
        ] {
            let refusal = PaperSetting::read(&Setting::new().with(key, value)).unwrap_err();
            let Refusal::BadSetting(text) = refusal else { panic!("{refusal}") };
            assert!(text.starts_with(why), "{text}");
        }
    }
}
