//! What the trading examples share: a server that trades against a played market, and a client with a small strategy.

pub mod client;
pub mod contracts;
pub mod distant;
pub mod server;
pub mod strategy;

use std::time::Duration;

/// Reads how long something is to run.
///
/// # Errors
/// It is no number, or out of range.
pub fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are a number from 0 to 86400"),
    }
}
