//! What vn.py's `constant.py` lists: each value has a fixed number on the wire and a fixed name in texts, in no language.

use core::fmt;
use core::str::FromStr;
use std::string::{String, ToString};

use serde::{Deserialize, Serialize};

/// A number that no value of an enum has: the peer speaks of something that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} has the number {number}")]
pub struct UnknownNumber {
    /// The enum.
    pub kind: &'static str,
    /// What was read.
    pub number: u8,
}

/// A name that no value of an enum has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} is named {name:?}")]
pub struct UnknownName {
    /// The enum.
    pub kind: &'static str,
    /// What was read.
    pub name: String,
}

/// An enum of one byte on the wire. Numbers are given once and never to another value.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$value_meta:meta])* $value:ident = $number:literal $text:literal,)* }
    ) => {
        $(#[$meta])*
        ///
        /// One byte on the wire, the number given here; any other number is a decode error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "u8", try_from = "u8")]
        #[repr(u8)]
        pub enum $name {
            $($(#[$value_meta])* $value = $number,)*
        }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$value,)*];

            /// The number on the wire.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The name in ids and texts; [`FromStr`] reads it back.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> u8 {
                value.number()
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownNumber;

            fn try_from(number: u8) -> Result<Self, UnknownNumber> {
                match number {
                    $($number => Ok($name::$value),)*
                    _ => Err(UnknownNumber { kind: stringify!($name), number }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                match name {
                    $($text => Ok($name::$value),)*
                    _ => Err(UnknownName { kind: stringify!($name), name: name.to_string() }),
                }
            }
        }
    };
}

numbered! {
    /// The side of an order, a trade or a position.
    Direction {
        /// Buys, or holds what was bought.
        Long = 1 "LONG",
        /// Sells, or owes what was sold.
        Short = 2 "SHORT",
        /// Positions only: long and short counted against each other, with a sign.
        Net = 3 "NET",
    }
}

numbered! {
    /// Whether an order opens a position or closes one, where the exchange wants to know.
    #[derive(Default)]
    Offset {
        /// The exchange does not ask.
        #[default]
        None = 0 "NONE",
        /// Opens a position.
        Open = 1 "OPEN",
        /// Closes one.
        Close = 2 "CLOSE",
        /// Closes one that was opened today.
        CloseToday = 3 "CLOSETODAY",
        /// Closes one that was opened before today.
        CloseYesterday = 4 "CLOSEYESTERDAY",
    }
}

numbered! {
    /// How far an order or a quote has come.
    Status {
        /// Sent, and not acknowledged by the exchange.
        Submitting = 1 "SUBMITTING",
        /// In the book, nothing traded.
        NotTraded = 2 "NOTTRADED",
        /// In the book, partly traded.
        PartTraded = 3 "PARTTRADED",
        /// Traded to the end.
        AllTraded = 4 "ALLTRADED",
        /// Taken out of the book.
        Cancelled = 5 "CANCELLED",
        /// Never entered the book.
        Rejected = 6 "REJECTED",
    }
}

impl Status {
    /// Whether it may still trade: submitting, not traded, or partly traded.
    pub const fn is_active(self) -> bool {
        matches!(self, Status::Submitting | Status::NotTraded | Status::PartTraded)
    }
}

numbered! {
    /// What kind of thing a contract is.
    Product {
        /// A share.
        Equity = 1 "EQUITY",
        /// A future.
        Futures = 2 "FUTURES",
        /// An option.
        Option = 3 "OPTION",
        /// An index, not tradable itself.
        Index = 4 "INDEX",
        /// A currency pair.
        Forex = 5 "FOREX",
        /// A spot commodity or coin.
        Spot = 6 "SPOT",
        /// An exchange-traded fund.
        Etf = 7 "ETF",
        /// A bond.
        Bond = 8 "BOND",
        /// A warrant.
        Warrant = 9 "WARRANT",
        /// A combination of contracts.
        Spread = 10 "SPREAD",
        /// A fund.
        Fund = 11 "FUND",
        /// A contract for difference.
        Cfd = 12 "CFD",
        /// A swap.
        Swap = 13 "SWAP",
    }
}

numbered! {
    /// How an order trades.
    #[derive(Default)]
    OrderType {
        /// At the price or better, rests in the book.
        #[default]
        Limit = 1 "LIMIT",
        /// At what the book offers.
        Market = 2 "MARKET",
        /// Sent when the price is reached.
        Stop = 3 "STOP",
        /// Fill and kill: trades what it can at once, the rest is cancelled.
        Fak = 4 "FAK",
        /// Fill or kill: trades at once and whole, or not at all.
        Fok = 5 "FOK",
        /// Request for quote.
        Rfq = 6 "RFQ",
        /// Creation or redemption of an exchange-traded fund.
        Etf = 7 "ETF",
    }
}

numbered! {
    /// What an option gives the right to.
    OptionType {
        /// To buy.
        Call = 1 "CALL",
        /// To sell.
        Put = 2 "PUT",
    }
}

numbered! {
    /// The time that one bar covers.
    Interval {
        /// A minute.
        Minute = 1 "1m",
        /// An hour.
        Hour = 2 "1h",
        /// A trading day.
        Daily = 3 "d",
        /// A trading week.
        Weekly = 4 "w",
        /// No bars: single ticks.
        Tick = 5 "tick",
    }
}

numbered! {
    /// A currency. No record carries it; vn.py lists it for its gateways.
    Currency {
        /// US dollar.
        Usd = 1 "USD",
        /// Hong Kong dollar.
        Hkd = 2 "HKD",
        /// Chinese yuan.
        Cny = 3 "CNY",
        /// Canadian dollar.
        Cad = 4 "CAD",
    }
}

numbered! {
    /// How much a log line matters, with the numbers of Python's `logging`.
    #[derive(Default)]
    LogLevel {
        /// For whoever looks for a fault.
        Debug = 10 "DEBUG",
        /// What happens in good order.
        #[default]
        Info = 20 "INFO",
        /// What somebody should look at.
        Warning = 30 "WARNING",
        /// What did not work.
        Error = 40 "ERROR",
        /// What the program cannot go on after.
        Critical = 50 "CRITICAL",
    }
}

numbered! {
    /// Where a contract is traded: 15 Chinese exchanges (1 to 15), 32 others (32 to 63), and two that are none (128, 129).
    Exchange {
        /// China Financial Futures Exchange.
        Cffex = 1 "CFFEX",
        /// Shanghai Futures Exchange.
        Shfe = 2 "SHFE",
        /// Zhengzhou Commodity Exchange.
        Czce = 3 "CZCE",
        /// Dalian Commodity Exchange.
        Dce = 4 "DCE",
        /// Shanghai International Energy Exchange.
        Ine = 5 "INE",
        /// Guangzhou Futures Exchange.
        Gfex = 6 "GFEX",
        /// Shanghai Stock Exchange.
        Sse = 7 "SSE",
        /// Shenzhen Stock Exchange.
        Szse = 8 "SZSE",
        /// Beijing Stock Exchange.
        Bse = 9 "BSE",
        /// Shanghai-Hong Kong Stock Connect.
        Shhk = 10 "SHHK",
        /// Shenzhen-Hong Kong Stock Connect.
        Szhk = 11 "SZHK",
        /// Shanghai Gold Exchange.
        Sge = 12 "SGE",
        /// Wuxi Stainless Steel Exchange.
        Wxe = 13 "WXE",
        /// China Foreign Exchange Trade System.
        Cfets = 14 "CFETS",
        /// CFETS X-Bond anonymous trading.
        Xbond = 15 "XBOND",
        /// Interactive Brokers' smart router.
        Smart = 32 "SMART",
        /// New York Stock Exchange.
        Nyse = 33 "NYSE",
        /// Nasdaq.
        Nasdaq = 34 "NASDAQ",
        /// NYSE Arca.
        Arca = 35 "ARCA",
        /// Direct Edge.
        Edgea = 36 "EDGEA",
        /// Nasdaq Island.
        Island = 37 "ISLAND",
        /// Bats Global Markets.
        Bats = 38 "BATS",
        /// Investors Exchange.
        Iex = 39 "IEX",
        /// American Stock Exchange.
        Amex = 40 "AMEX",
        /// Toronto Stock Exchange.
        Tse = 41 "TSE",
        /// New York Mercantile Exchange.
        Nymex = 42 "NYMEX",
        /// Commodity Exchange, New York.
        Comex = 43 "COMEX",
        /// CME Globex.
        Globex = 44 "GLOBEX",
        /// Interactive Brokers' currency market.
        Idealpro = 45 "IDEALPRO",
        /// Chicago Mercantile Exchange.
        Cme = 46 "CME",
        /// Intercontinental Exchange.
        Ice = 47 "ICE",
        /// Stock Exchange of Hong Kong.
        Sehk = 48 "SEHK",
        /// Hong Kong Futures Exchange.
        Hkfe = 49 "HKFE",
        /// Singapore Exchange.
        Sgx = 50 "SGX",
        /// Chicago Board of Trade.
        Cbot = 51 "CBOT",
        /// Chicago Board Options Exchange.
        Cboe = 52 "CBOE",
        /// CBOE Futures Exchange.
        Cfe = 53 "CFE",
        /// Dubai Mercantile Exchange.
        Dme = 54 "DME",
        /// Eurex; its name in ids is `EUX`.
        Eurex = 55 "EUX",
        /// Asia Pacific Exchange.
        Apex = 56 "APEX",
        /// London Metal Exchange.
        Lme = 57 "LME",
        /// Bursa Malaysia Derivatives.
        Bmd = 58 "BMD",
        /// Tokyo Commodity Exchange.
        Tocom = 59 "TOCOM",
        /// Euronext.
        Eunx = 60 "EUNX",
        /// Korea Exchange.
        Krx = 61 "KRX",
        /// Over the counter.
        Otc = 62 "OTC",
        /// Interactive Brokers' alternative trading system, for paper trading.
        Ibkrats = 63 "IBKRATS",
        /// Made here, such as a spread of one's own.
        Local = 128 "LOCAL",
        /// On exchanges that vn.py does not list.
        Global = 129 "GLOBAL",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::format;
    use std::vec::Vec;

    use serde::de::DeserializeOwned;

    use super::*;

    /// Every value goes over the wire as its number and through a text as its name; all other numbers are refused.
    #[track_caller]
    fn keeps_its_numbers<T>(all: &[T])
    where
        T: Copy + PartialEq + fmt::Debug + fmt::Display + Into<u8> + FromStr + Serialize + DeserializeOwned,
        T::Err: fmt::Debug,
    {
        let mut decodable = Vec::new();
        for number in 0..=u8::MAX {
            if let Ok(value) = postcard::from_bytes::<T>(&[number]) {
                assert_eq!(postcard::to_allocvec(&value).unwrap(), [number]);
                assert_eq!(value.into(), number);
                decodable.push(value);
            }
        }
        assert_eq!(decodable, all, "in the order of their numbers, and no others");
        let names: BTreeSet<String> = all.iter().map(|value| format!("{value}")).collect();
        assert_eq!(names.len(), all.len(), "no name twice");
        for value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
        }
        assert!("no such name".parse::<T>().is_err());
    }

    #[test]
    fn values_are_their_numbers_on_the_wire() {
        keeps_its_numbers(Direction::ALL);
        keeps_its_numbers(Offset::ALL);
        keeps_its_numbers(Status::ALL);
        keeps_its_numbers(Product::ALL);
        keeps_its_numbers(OrderType::ALL);
        keeps_its_numbers(OptionType::ALL);
        keeps_its_numbers(Interval::ALL);
        keeps_its_numbers(Currency::ALL);
        keeps_its_numbers(LogLevel::ALL);
        keeps_its_numbers(Exchange::ALL);
    }

    #[test]
    fn every_value_of_the_original_is_there() {
        let counts = [
            (Direction::ALL.len(), 3),
            (Offset::ALL.len(), 5),
            (Status::ALL.len(), 6),
            (Product::ALL.len(), 13),
            (OrderType::ALL.len(), 7),
            (OptionType::ALL.len(), 2),
            (Interval::ALL.len(), 5),
            (Currency::ALL.len(), 4),
            (Exchange::ALL.len(), 15 + 32 + 2),
        ];
        for (found, expected) in counts {
            assert_eq!(found, expected);
        }
        assert_eq!("EUX".parse(), Ok(Exchange::Eurex));
        assert_eq!(Interval::Minute.to_string(), "1m");
    }

    #[test]
    fn unknown_values_say_what_they_are() {
        assert_eq!(Status::try_from(9), Err(UnknownNumber { kind: "Status", number: 9 }));
        assert_eq!(Status::try_from(9).unwrap_err().to_string(), "no Status has the number 9");
        let error = "EUREX".parse::<Exchange>().unwrap_err();
        assert_eq!(error, UnknownName { kind: "Exchange", name: String::from("EUREX") });
        assert!("long".parse::<Direction>().is_err(), "names are exact");
    }

    #[test]
    fn three_statuses_of_six_are_active() {
        let active: Vec<Status> = Status::ALL.iter().copied().filter(|status| status.is_active()).collect();
        assert_eq!(active, [Status::Submitting, Status::NotTraded, Status::PartTraded]);
    }
}
