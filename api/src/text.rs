//! How ids, times and prices are written as text at the edge, and read back. Never decides anything.

use std::fmt;

use engine::{Decimal, LogTime, Price};
use jiff::Timestamp;
use uuid::Uuid;

/// The text of an id: 36 characters, hyphenated, lower case.
pub fn id(bits: u128) -> String {
    Uuid::from_u128(bits).hyphenated().to_string()
}

/// Reads the text of an id. Only the hyphenated form is an id; its letters may be upper case.
pub fn parse_id(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok().map(|id| id.as_u128())
}

/// The text of a time: RFC 3339, UTC, exactly three decimals (`2026-01-29T13:00:00.000Z`).
pub fn time(at: LogTime) -> String {
    TimeDisplay(at).to_string()
}

/// Writes a time as [`time`] does, without a string of its own.
#[derive(Clone, Copy, Debug)]
pub struct TimeDisplay(pub LogTime);

impl fmt::Display for TimeDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies outside the calendar (the years 0 to 9999) is written as its last or first instant.
        let ms = self.0.0.clamp(CALENDAR_MS.0, CALENDAR_MS.1);
        match Timestamp::from_millisecond(ms) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

/// First and last millisecond that RFC 3339 can write and every calendar library can read.
const CALENDAR_MS: (i64, i64) = (-62_167_219_200_000, 253_402_207_199_999);

/// Reads an RFC 3339 time with any offset; what is finer than a millisecond is cut off.
///
/// Stricter than the calendar library: a four-digit year, `T`, seconds, and `Z` or an offset with a colon.
pub fn parse_time(text: &str) -> Option<LogTime> {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let mark = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let shaped = digits(0..4)
        && mark(4, b"-")
        && digits(5..7)
        && mark(7, b"-")
        && digits(8..10)
        && mark(10, b"Tt")
        && digits(11..13)
        && mark(13, b":")
        && digits(14..16)
        && mark(16, b":")
        && digits(17..19);
    if !shaped || text.len() > 64 {
        return None;
    }
    let mut rest = &bytes[19..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        rest = &fraction[count..];
    }
    let offset = match rest {
        b"Z" | b"z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if !offset {
        return None;
    }
    // The library keeps nine decimals; longer fractions are legal and are cut here.
    let fraction_end = bytes.len() - rest.len();
    let kept = fraction_end.min(19 + 1 + 9);
    let trimmed = format!("{}{}", &text[..kept], &text[fraction_end..]);
    let stamp: Timestamp = trimmed.parse().ok()?;
    let ms = stamp.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(ms).ok().map(LogTime)
}

/// The text of a price of a lot with `scale` digits behind the point: `41950` at 2 is `419.50`.
pub fn price(price: Price, scale: u8) -> String {
    price.decimal(scale).to_string()
}

/// A decimal written with exactly `scale` digits behind the point, where its value allows; else as it was sent.
pub fn decimal_at(value: Decimal, scale: u8) -> Decimal {
    match value.units(scale) {
        Some(units) => Decimal { mantissa: units, scale },
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_with_three_decimals_in_utc() {
        assert_eq!(time(LogTime(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(LogTime(1_706_533_200_007)), "2024-01-29T13:00:00.007Z");
        assert_eq!(time(LogTime(i64::MAX)), "9999-12-30T21:59:59.999Z");
        assert_eq!(time(LogTime(-1)), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_are_read_with_any_offset_and_cut_to_milliseconds() {
        let noon = parse_time("2024-01-29T13:00:00Z");
        assert!(noon.is_some());
        for text in [
            "2024-01-29T16:00:00+03:00",
            "2024-01-29T13:00:00.0009Z",
            "2024-01-29t13:00:00.0000000000001z",
            "2024-01-29T07:30:00.000-05:30",
        ] {
            assert_eq!(parse_time(text), noon, "{text}");
        }
        assert_eq!(parse_time("1969-12-31T23:59:59.9999Z"), Some(LogTime(-1)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024-01-29",
            "2024-01-29T13:00:00",
            "2024-01-29 13:00:00Z",
            "2024-01-29T13:00Z",
            "2024-02-30T13:00:00Z",
            "2024-01-29T24:00:00Z",
            "2024-01-29T13:00:00.Z",
            "2024-01-29T13:00:00+0300",
            "2024-01-29T13:00:00Z ",
            "+002024-01-29T13:00:00Z",
            "2024-01-29T13:00:00+03:00[Asia/Riyadh]",
            "1706533200",
            "٢٠٢٤-01-29T13:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_hyphenated_ids_are_ids() {
        let text = id(0x0190_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(text, "01900000-0000-7000-8000-000000000001");
        assert_eq!(parse_id(&text), Some(0x0190_0000_0000_7000_8000_0000_0000_0001));
        for text in [
            "",
            "01900000000070008000000000000001",
            "{01900000-0000-7000-8000-00000000001}",
            "01900000-0000-7000-8000-00000000000g",
        ] {
            assert_eq!(parse_id(text), None, "{text:?}");
        }
    }

    #[test]
    fn decimals_are_written_at_the_scale_if_their_value_allows() {
        let at = |text: &str, scale| decimal_at(Decimal::parse(text).expect(text), scale).to_string();
        assert_eq!(at("1000", 2), "1000.00");
        assert_eq!(at("419.5000", 2), "419.50");
        assert_eq!(at("419.505", 2), "419.505");
        assert_eq!(at("-3", 1), "-3.0");
    }

    proptest! {
        #[test]
        fn times_and_ids_survive_a_round_trip(ms in 0i64..253_402_207_199_999, bits: u128) {
            prop_assert_eq!(parse_time(&time(LogTime(ms))), Some(LogTime(ms)));
            prop_assert_eq!(parse_id(&id(bits)), Some(bits));
        }
    }
}
