//! Log lines as records.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::trader::{LogLevel, Timestamp};

/// One log line, with who says it and when.
///
/// Source: vn.py `LogData`. Put under `eLog` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogData {
    /// Who says it: a gateway's name, or whatever the main engine was told.
    pub gateway_name: String,
    /// What is said.
    pub msg: String,
    /// How much it matters; [`LogLevel::Info`] unless said otherwise.
    pub level: LogLevel,
    /// When it was said.
    pub time: Timestamp,
    /// Anything else.
    pub extra: Extra,
}

impl LogData {
    /// Something said now.
    pub fn new(gateway_name: impl Into<String>, msg: impl Into<String>) -> Self {
        LogData {
            gateway_name: gateway_name.into(),
            msg: msg.into(),
            level: LogLevel::Info,
            time: Timestamp::now(),
            extra: Extra::new(),
        }
    }
}
