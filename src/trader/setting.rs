//! Settings of gateways and services, as JSON.

use core::fmt;
use core::str::FromStr;
use std::fs;
use std::io;
use std::path::Path;
use std::string::{String, ToString};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Named values that a gateway connects with, or a service starts with: one JSON object. vn.py's `setting: dict`.
///
/// ```
/// use pulsewire::trader::Setting;
///
/// let setting: Setting = r#"{"address": "127.0.0.1:2014", "retries": 3}"#.parse()?;
/// assert_eq!(setting.text("address")?, "127.0.0.1:2014");
/// assert_eq!(setting.integer("retries")?, 3);
/// assert!(setting.text("user").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Setting(Map<String, Value>);

/// Why a setting has no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// It is not there.
    #[error("the setting has no {0:?}")]
    Missing(String),
    /// It is there, and something else.
    #[error("{key:?} in the setting is not {expected}")]
    WrongType {
        /// Its name.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Setting {
    /// Without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one value more, or another one under this name.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// Sets one value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    /// The value of this name, whatever it is.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All names, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A text.
    ///
    /// # Errors
    /// It is missing, or no text.
    pub fn text(&self, key: &str) -> Result<&str, SettingError> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is missing, no whole number, or beyond 64 bits.
    pub fn integer(&self, key: &str) -> Result<i64, SettingError> {
        self.typed(key, "a whole number of 64 bits", Value::as_i64)
    }

    /// A number.
    ///
    /// # Errors
    /// It is missing, or no number.
    pub fn number(&self, key: &str) -> Result<f64, SettingError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// Yes or no.
    ///
    /// # Errors
    /// It is missing, or neither `true` nor `false`.
    pub fn flag(&self, key: &str) -> Result<bool, SettingError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or holds no JSON object (`InvalidData`).
    pub fn load(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// Writes a file. It has either its old content or the new one, whatever happens meanwhile.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let mut unfinished = path.as_os_str().to_os_string();
        unfinished.push(".new");
        fs::write(&unfinished, std::format!("{self:#}\n"))?;
        fs::rename(&unfinished, path)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, SettingError> {
        let value = self.0.get(key).ok_or_else(|| SettingError::Missing(key.to_string()))?;
        read(value).ok_or_else(|| SettingError::WrongType { key: key.to_string(), expected })
    }
}

impl FromStr for Setting {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }
}

/// JSON, on one line; with `#` on several.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = if f.alternate() { serde_json::to_string_pretty } else { serde_json::to_string };
        f.write_str(&json(&self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn values_are_read_as_what_they_are() {
        let setting = Setting::new()
            .with("address", "127.0.0.1:2014")
            .with("retries", 3)
            .with("slippage", 0.5)
            .with("live", true);
        assert_eq!(setting.text("address"), Ok("127.0.0.1:2014"));
        assert_eq!(setting.integer("retries"), Ok(3));
        assert_eq!((setting.number("slippage"), setting.number("retries")), (Ok(0.5), Ok(3.0)));
        assert_eq!(setting.flag("live"), Ok(true));
        assert_eq!(setting.keys().collect::<Vec<_>>(), ["address", "live", "retries", "slippage"]);
        assert_eq!(setting.text("user"), Err(SettingError::Missing("user".into())));
        let wrong = |key: &str, expected| SettingError::WrongType { key: key.into(), expected };
        assert_eq!(setting.text("retries"), Err(wrong("retries", "a text")));
        assert_eq!(setting.integer("slippage"), Err(wrong("slippage", "a whole number of 64 bits")));
        assert_eq!(setting.flag("address"), Err(wrong("address", "true or false")));
        assert_eq!(setting.number("live"), Err(wrong("live", "a number")));
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_broken_file_is_refused() {
        let folder = std::env::temp_dir().join(std::format!("pulsewire-setting-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("setting.json");
        assert_eq!(Setting::load(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        for setting in [Setting::new(), Setting::new().with("名", "值\"\n")] {
            setting.save(&path).unwrap();
            assert_eq!(Setting::load(&path).unwrap(), setting);
        }
        for broken in ["", "[1]", "{\"a\": 1", "{} {}"] {
            fs::write(&path, broken).unwrap();
            assert!(Setting::load(&path).is_err(), "{broken}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
