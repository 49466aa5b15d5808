//! What the processes of a run say to each other over their pipes: one line for one thing.

use std::fmt;
use std::str::FromStr;

/// What a child reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The server listens.
    Ready,
    /// A client has all that the server of this epoch has.
    Live { epoch: u64 },
    /// So many orders were sent by a client so far; of so many the outcome was unknown.
    Progress { sent: usize, unknown: usize },
    /// A client trades no more, and knows what became of all that it sent.
    Settled,
    /// A client has written down what it believes.
    Stated,
}

/// What the parent orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To a client: trade no more.
    Settle,
    /// To anybody: end.
    Stop,
}

/// The line is none of those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUnderstood;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Report::Ready => f.write_str("ready"),
            Report::Live { epoch } => write!(f, "live {epoch}"),
            Report::Progress { sent, unknown } => write!(f, "progress {sent} {unknown}"),
            Report::Settled => f.write_str("settled"),
            Report::Stated => f.write_str("stated"),
        }
    }
}

impl FromStr for Report {
    type Err = NotUnderstood;

    fn from_str(line: &str) -> Result<Self, NotUnderstood> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["ready"] => Ok(Report::Ready),
            ["live", epoch] => Ok(Report::Live { epoch: value(epoch)? }),
            ["progress", sent, unknown] => {
                Ok(Report::Progress { sent: value(sent)?, unknown: value(unknown)? })
            }
            ["settled"] => Ok(Report::Settled),
            ["stated"] => Ok(Report::Stated),
            _ => Err(NotUnderstood),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Order::Settle => "settle",
            Order::Stop => "stop",
        })
    }
}

impl FromStr for Order {
    type Err = NotUnderstood;

    fn from_str(line: &str) -> Result<Self, NotUnderstood> {
        match line {
            "settle" => Ok(Order::Settle),
            "stop" => Ok(Order::Stop),
            _ => Err(NotUnderstood),
        }
    }
}

fn value<T: FromStr>(word: &str) -> Result<T, NotUnderstood> {
    word.parse().map_err(|_| NotUnderstood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_was_written_and_no_other() {
        let reports = [
            Report::Ready,
            Report::Live { epoch: u64::MAX },
            Report::Progress { sent: 7, unknown: 1 },
            Report::Settled,
            Report::Stated,
        ];
        for report in reports {
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        for order in [Order::Settle, Order::Stop] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for line in ["", "live", "live x", "live 1 2", "progress 1", " ready", "Ready"] {
            assert_eq!(line.parse::<Report>(), Err(NotUnderstood), "{line:?}");
        }
        assert_eq!("halt".parse::<Order>(), Err(NotUnderstood));
    }
}
