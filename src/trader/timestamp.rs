//! Moments of market data and orders: nanoseconds since 1970, UTC.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment in nanoseconds since 1970-01-01T00:00:00Z, as records carry it.
///
/// It reaches from 1677-09-21 to 2262-04-11. Leap seconds do not exist in it, as in Unix time. It is data: it jumps when
/// somebody sets the machine's clock, so nothing may wait for it. Time zones are for those who show it to people; vn.py's
/// aware `datetime` becomes this one moment, at a thousand times its resolution.
///
/// Its text is RFC 3339 in UTC, with as many groups of three digits behind the point as it takes:
///
/// ```
/// use pulsewire::trader::Timestamp;
///
/// let open: Timestamp = "2024-10-08T09:30:00.5+08:00".parse()?;
/// assert_eq!(open.to_string(), "2024-10-08T01:30:00.500Z");
/// assert_eq!(open.as_nanos(), 1_728_351_000_500_000_000);
/// # Ok::<(), pulsewire::trader::ParseTimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTimestampError {
    /// It is not `YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm)`, or the fraction has more than nine digits.
    #[error("not a moment in the form of RFC 3339, from byte {at} on")]
    Malformed {
        /// The first byte that does not fit.
        at: usize,
    },
    /// There is no such date or time of day, or it is a leap second.
    #[error("no such date or time of day")]
    NoSuchTime,
    /// Nanoseconds since 1970 do not reach that far.
    #[error(transparent)]
    OutOfRange(#[from] TimestampOutOfRange),
}

/// A moment before 1677-09-21 or after 2262-04-11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("further from 1970 than a timestamp reaches")]
pub struct TimestampOutOfRange;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);
    /// The first moment that there is.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The last moment that there is.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// What the machine's clock says. A clock beyond the range gives the nearest moment in it.
    pub fn now() -> Self {
        let now = SystemTime::now();
        let nearest = if now < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        now.try_into().unwrap_or(nearest)
    }

    /// The moment so many nanoseconds after 1970 began, or before it.
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since 1970 began; negative before it.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The moment so much later, if there is one.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = i128::from(self.0) + i128::try_from(duration.as_nanos()).ok()?;
        i64::try_from(nanos).ok().map(Timestamp)
    }

    /// The moment so much earlier, if there is one.
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        let nanos = i128::from(self.0) - i128::try_from(duration.as_nanos()).ok()?;
        i64::try_from(nanos).ok().map(Timestamp)
    }

    /// How long after `earlier` this is; `None` if it is before it.
    pub fn checked_since(self, earlier: Timestamp) -> Option<Duration> {
        (self >= earlier).then(|| Duration::from_nanos(self.0.abs_diff(earlier.0)))
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = TimestampOutOfRange;

    fn try_from(time: SystemTime) -> Result<Self, TimestampOutOfRange> {
        let moved = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::UNIX_EPOCH.checked_add(after),
            Err(before) => Timestamp::UNIX_EPOCH.checked_sub(before.duration()),
        };
        moved.ok_or(TimestampOutOfRange)
    }
}

impl From<Timestamp> for SystemTime {
    /// On systems whose clock counts in steps above a nanosecond, what is below a step is cut off.
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.div_euclid(NANOS_PER_SECOND), self.0.rem_euclid(NANOS_PER_SECOND));
        let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos == 0 {
            f.write_str("Z")
        } else if nanos % 1_000_000 == 0 {
            write!(f, ".{:03}Z", nanos / 1_000_000)
        } else if nanos % 1_000 == 0 {
            write!(f, ".{:06}Z", nanos / 1_000)
        } else {
            write!(f, ".{nanos:09}Z")
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        let mut text = Cursor { bytes: text.as_bytes(), at: 0 };
        let (year, month, day) = (text.number(4)?, text.number_after(b"-")?, text.number_after(b"-")?);
        let (hour, minute, second) =
            (text.number_after(b"Tt ")?, text.number_after(b":")?, text.number_after(b":")?);
        let nanos = text.fraction()?;
        let offset = text.offset()?;
        text.end()?;

        let is_date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return Err(ParseTimestampError::NoSuchTime);
        }
        let seconds =
            days_of(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - offset;
        let all = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
        Ok(Timestamp(i64::try_from(all).map_err(|_| TimestampOutOfRange)?))
    }
}

/// Reads a text from the left.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn malformed<T>(&self) -> Result<T, ParseTimestampError> {
        Err(ParseTimestampError::Malformed { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn one_of(&mut self, marks: &[u8]) -> Result<u8, ParseTimestampError> {
        match self.peek() {
            Some(byte) if marks.contains(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            _ => self.malformed(),
        }
    }

    fn digit(&mut self) -> Result<i64, ParseTimestampError> {
        Ok(i64::from(self.one_of(b"0123456789")? - b'0'))
    }

    fn number(&mut self, digits: usize) -> Result<i64, ParseTimestampError> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 10 + self.digit()?;
        }
        Ok(number)
    }

    /// Two digits behind one of these marks.
    fn number_after(&mut self, marks: &[u8]) -> Result<i64, ParseTimestampError> {
        self.one_of(marks)?;
        self.number(2)
    }

    /// Nanoseconds: up to nine digits behind a point, if there is one.
    fn fraction(&mut self) -> Result<i64, ParseTimestampError> {
        if self.peek() != Some(b'.') {
            return Ok(0);
        }
        self.at += 1;
        let mut nanos = self.digit()? * (NANOS_PER_SECOND / 10);
        let mut unit = NANOS_PER_SECOND / 100;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            if unit == 0 {
                return self.malformed(); // It says more than we can keep.
            }
            nanos += self.digit()? * unit;
            unit /= 10;
        }
        Ok(nanos)
    }

    /// Seconds that this time zone is ahead of UTC.
    fn offset(&mut self) -> Result<i64, ParseTimestampError> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Ok(0),
        };
        let (hours, minutes) = (self.number(2)?, self.number_after(b":")?);
        if hours > 23 || minutes > 59 {
            return Err(ParseTimestampError::NoSuchTime);
        }
        Ok(sign * (hours * 3_600 + minutes * 60))
    }

    fn end(&self) -> Result<(), ParseTimestampError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            self.malformed()
        }
    }
}

// Years are counted from 1 March below, so that the leap day is the last day of its year. The calendar repeats itself
// every 400 years, which are 146 097 days.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let month_from_march = (month + 9) % 12;
    let year = if month_from_march >= 10 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    // Five months from March on have 153 days, again and again.
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH
}

/// The date so many days after 1970-01-01: year, month, day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<i64, ParseTimestampError> {
        text.parse().map(Timestamp::as_nanos)
    }

    #[test]
    fn known_moments_have_their_numbers_and_texts() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("1900-03-01T00:00:00Z", -2_203_891_200),
        ] {
            assert_eq!(parse(text), Ok(seconds * NANOS_PER_SECOND), "{text}");
            assert_eq!(Timestamp::from_nanos(seconds * NANOS_PER_SECOND).to_string(), text);
        }
        assert_eq!(Timestamp::MIN.to_string(), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(Timestamp::MAX.to_string(), "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn every_day_follows_the_one_before_it() {
        let (mut year, mut month, mut day) = (1_600, 1, 1);
        for days in days_of(1_600, 1, 1)..days_of(2_401, 1, 1) {
            assert_eq!((date_of(days), days_of(year, month, day)), ((year, month, day), days));
            day += 1;
            if day > days_in(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (2_401, 1, 1));
    }

    #[test]
    fn time_zones_and_small_variations_are_read() {
        let noon = parse("2024-10-08T12:00:00Z").unwrap();
        for text in [
            "2024-10-08t12:00:00z",
            "2024-10-08 12:00:00.000Z",
            "2024-10-08T20:00:00+08:00",
            "2024-10-08T06:30:00-05:30",
            "2024-10-09T11:59:00+23:59",
        ] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:00.000000001Z"), Ok(1));
        assert_eq!(parse("1969-12-31T23:59:59.9Z"), Ok(-100_000_000));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for (text, at) in [
            ("", 0),
            ("2024", 4),
            ("2024-10-08", 10),
            ("2024-10-08T12:00:00", 19),
            ("2024-10-08T12:00:00Zx", 20),
            ("2024-10-08T12:00:00.Z", 20),
            ("2024-10-08T12:00:00.1234567890Z", 29),
            ("2024-10-08T12:00:00+0800", 22),
            ("+024-10-08T12:00:00Z", 0),
            ("２０２４-10-08T12:00:00Z", 0),
        ] {
            assert_eq!(parse(text), Err(ParseTimestampError::Malformed { at }), "{text}");
        }
        for text in [
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2024-04-00T00:00:00Z",
            "2024-04-01T24:00:00Z",
            "2024-04-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2024-04-01T00:00:00+24:00",
        ] {
            assert_eq!(parse(text), Err(ParseTimestampError::NoSuchTime), "{text}");
        }
        for text in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2262-04-11T23:47:16.854775808Z"] {
            assert_eq!(parse(text), Err(ParseTimestampError::OutOfRange(TimestampOutOfRange)), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        assert_eq!(Timestamp::UNIX_EPOCH.checked_add(second), Some(Timestamp(NANOS_PER_SECOND)));
        assert_eq!(Timestamp::UNIX_EPOCH.checked_sub(second), Some(Timestamp(-NANOS_PER_SECOND)));
        assert_eq!(Timestamp::MAX.checked_add(nano), None);
        assert_eq!(Timestamp::MIN.checked_sub(nano), None);
        assert_eq!(Timestamp::MAX.checked_add(Duration::MAX), None);
        let all = Timestamp::MAX.checked_since(Timestamp::MIN);
        assert_eq!(all, Some(Duration::from_nanos(u64::MAX)));
        assert_eq!(Timestamp::MIN.checked_since(Timestamp::MAX), None);
    }

    #[test]
    fn system_time_beyond_the_range_is_refused() {
        let after = UNIX_EPOCH + Duration::from_secs(10_000_000_000);
        assert_eq!(Timestamp::try_from(after), Err(TimestampOutOfRange));
        assert!(Timestamp::now() > parse("2020-01-01T00:00:00Z").map(Timestamp::from_nanos).unwrap());
    }

    proptest! {
        #[test]
        fn text_and_system_time_give_the_same_moment_back(nanos: i64) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(parse(&time.to_string()), Ok(nanos));
            prop_assert_eq!(Timestamp::try_from(SystemTime::from(time)), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:. +-]{0,32}") {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert_eq!(time.to_string().parse(), Ok(time));
            }
        }
    }
}
