//! Where a service listens, as it stands in its file.

use std::io;
use std::path::Path;
use std::string::{String, ToString};

use crate::rpc::{Address, AddressError};
use crate::trader::{Setting, SettingError};

/// Where an [`RpcService`](super::RpcService) listens.
///
/// The keys of its file are those of vn.py's `rpc_service_setting.json`, and a file of vn.py's is understood. What
/// differs is the default: vn.py listens on all interfaces (`tcp://*:2014`), this on loopback, because whoever reaches
/// the port may send orders. Addresses beyond loopback need `"allow_plaintext": true`.
///
/// ```json
/// { "rep_address": "tcp://127.0.0.1:2014", "pub_address": "tcp://127.0.0.1:4102", "allow_plaintext": false }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcServiceSetting {
    /// For calls; either address serves both. Default `tcp://127.0.0.1:2014`.
    pub rep_address: String,
    /// For events. Empty: the one address is enough. Default `tcp://127.0.0.1:4102`.
    pub pub_address: String,
    /// Addresses beyond loopback are meant: everybody who reaches them may trade. Default no.
    pub allow_plaintext: bool,
}

/// Why a setting makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcServiceSettingError {
    /// The file cannot be read, or holds no JSON object.
    #[error("cannot read the setting: {0}")]
    File(#[from] io::Error),
    /// A value is of the wrong type.
    #[error(transparent)]
    Value(#[from] SettingError),
    /// A name that means nothing: a misspelt one would otherwise be the default.
    #[error("the setting has an unknown {0:?}; there are rep_address, pub_address and allow_plaintext")]
    UnknownKey(String),
    /// An address is none.
    #[error("{key} in the setting: {error}")]
    Address {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        error: AddressError,
    },
    /// An address is beyond loopback, and nothing says that this is meant.
    #[error("{key} {address:?} is not a loopback address, and whoever reaches it may trade: \"allow_plaintext\": true says that it is meant")]
    Plaintext {
        /// Which.
        key: &'static str,
        /// The address as it was given.
        address: String,
    },
}

const REP_ADDRESS: &str = "rep_address";
const PUB_ADDRESS: &str = "pub_address";
const ALLOW_PLAINTEXT: &str = "allow_plaintext";

impl Default for RpcServiceSetting {
    fn default() -> Self {
        Self::new("tcp://127.0.0.1:2014", "tcp://127.0.0.1:4102")
    }
}

impl RpcServiceSetting {
    /// These addresses, on loopback.
    pub fn new(rep_address: impl Into<String>, pub_address: impl Into<String>) -> Self {
        RpcServiceSetting {
            rep_address: rep_address.into(),
            pub_address: pub_address.into(),
            allow_plaintext: false,
        }
    }

    /// Reads a file. One that is not there is the default, and what it does not name has its default.
    ///
    /// # Errors
    /// It cannot be read, holds no JSON object, an unknown name, a value of the wrong type, or an address that is none
    /// or not allowed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RpcServiceSettingError> {
        match Setting::load(path) {
            Ok(setting) => Self::try_from(&setting),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        Setting::from(self).save(path)
    }

    /// The addresses to listen on: one or two.
    ///
    /// # Errors
    /// One of them is none, or not allowed.
    pub(super) fn addresses(&self) -> Result<(Address, Option<Address>), RpcServiceSettingError> {
        let first = self.address(REP_ADDRESS, &self.rep_address)?;
        if self.pub_address.is_empty() || self.pub_address == self.rep_address {
            return Ok((first, None));
        }
        Ok((first, Some(self.address(PUB_ADDRESS, &self.pub_address)?)))
    }

    fn address(&self, key: &'static str, text: &str) -> Result<Address, RpcServiceSettingError> {
        let address: Address =
            text.parse().map_err(|error| RpcServiceSettingError::Address { key, error })?;
        if !self.allow_plaintext && !address.is_loopback() {
            return Err(RpcServiceSettingError::Plaintext { key, address: text.to_string() });
        }
        Ok(address)
    }
}

impl TryFrom<&Setting> for RpcServiceSetting {
    type Error = RpcServiceSettingError;

    fn try_from(setting: &Setting) -> Result<Self, RpcServiceSettingError> {
        let mut found = Self::default();
        for key in setting.keys() {
            match key {
                REP_ADDRESS => found.rep_address = setting.text(key)?.to_string(),
                PUB_ADDRESS => found.pub_address = setting.text(key)?.to_string(),
                ALLOW_PLAINTEXT => found.allow_plaintext = setting.flag(key)?,
                unknown => return Err(RpcServiceSettingError::UnknownKey(unknown.to_string())),
            }
        }
        found.addresses()?;
        Ok(found)
    }
}

impl From<&RpcServiceSetting> for Setting {
    fn from(setting: &RpcServiceSetting) -> Setting {
        Setting::new()
            .with(REP_ADDRESS, &*setting.rep_address)
            .with(PUB_ADDRESS, &*setting.pub_address)
            .with(ALLOW_PLAINTEXT, setting.allow_plaintext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RpcServiceSetting, RpcServiceSettingError> {
        RpcServiceSetting::try_from(&json.parse::<Setting>().unwrap())
    }

    #[test]
    fn what_is_not_named_has_its_default_on_loopback() {
        assert_eq!(read("{}").unwrap(), RpcServiceSetting::default());
        let other = read(r#"{"rep_address": "tcp://localhost:1", "pub_address": ""}"#).unwrap();
        assert_eq!(other, RpcServiceSetting::new("tcp://localhost:1", ""));
        assert!(other.addresses().unwrap().1.is_none());
        assert!(RpcServiceSetting::default().addresses().unwrap().1.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let says = |json: &str| read(json).unwrap_err().to_string();
        assert!(says(r#"{"rep_adress": "tcp://127.0.0.1:1"}"#).contains("unknown \"rep_adress\""));
        assert!(says(r#"{"rep_address": 2014}"#).contains("\"rep_address\" in the setting is not a text"));
        assert!(says(r#"{"allow_plaintext": "yes"}"#).contains("is not true or false"));
        assert!(says(r#"{"pub_address": "tcp://127.0.0.1:70000"}"#).starts_with("pub_address in the setting"));
        // A file of vn.py's that listens everywhere.
        let everywhere = r#"{"rep_address": "tcp://*:2014", "pub_address": "tcp://*:4102"}"#;
        assert!(matches!(read(everywhere), Err(RpcServiceSettingError::Plaintext { key: REP_ADDRESS, .. })));
        let meant = everywhere.replace('}', r#", "allow_plaintext": true}"#);
        assert!(read(&meant).unwrap().allow_plaintext);
    }
}
