//! Numbers: decimals as they were sent, prices in units of a lot's scale, times of the log.
//!
//! Everything here is an integer. A float never touches a price, a factor or a score.

use std::cmp::Ordering;
use std::fmt;

use wincode::{SchemaRead, SchemaWrite};

/// Milliseconds since the Unix epoch, stamped once by the leader. Whole; never runs backwards in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
pub struct LogTime(pub i64);

impl LogTime {
    /// This time plus `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Most digits behind the point that a lot's prices may have.
pub const PRICE_SCALE_MAX: u8 = 6;

/// The highest price in units of a lot's scale. Higher ones are refused as `above_ceiling`, ceiling or not,
/// so that sums and products of prices stay far inside their integers.
pub const PRICE_MAX: Price = Price(1_000_000_000_000_000);

/// A price in units of 10^-`price_scale` of the tender's currency. Lower is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
pub struct Price(pub i64);

impl Price {
    /// The decimal this price is written as at `scale` digits behind the point: `41950` at 2 is `419.50`.
    pub const fn decimal(self, scale: u8) -> Decimal {
        Decimal { mantissa: self.0, scale }
    }
}

/// A decimal number as somebody wrote it: `mantissa` × 10^-`scale`. Compare by [`Decimal::cmp_value`]:
/// `1.0` and `1.00` are different writings of one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, SchemaWrite, SchemaRead)]
pub struct Decimal {
    /// All digits, with the sign.
    pub mantissa: i64,
    /// How many of the digits stand behind the point.
    pub scale: u8,
}

impl Decimal {
    /// Reads a decimal string: an optional `-`, digits, and optionally a point and digits; at most 64 characters.
    ///
    /// A value that doesn't fit keeps what decides about it: more than 18 whole digits saturate (and are above every
    /// ceiling); digits behind the point are cut after 18 significant ones but stay counted in `scale` when one of
    /// those cut is not zero (and so break every `price_scale`). Anything else than a decimal string is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let sign = if negative { -1 } else { 1 };
        if whole.len() > 18 {
            return Some(Self { mantissa: sign * i64::MAX, scale: 0 });
        }
        let room = 18 - whole.len();
        let (kept, cut) = fraction.split_at(fraction.len().min(room));
        let cut = cut.trim_end_matches('0');
        let mut mantissa = 0i64;
        for byte in whole.bytes().chain(kept.bytes()) {
            mantissa = mantissa * 10 + i64::from(byte - b'0');
        }
        if cut.is_empty() {
            return Some(Self { mantissa: sign * mantissa, scale: kept.len() as u8 });
        }
        // Never zero and never on any scale: one unit in the last place stands for what was cut.
        Some(Self { mantissa: sign * (mantissa / 10 * 10 + 1), scale: 18.max(kept.len() as u8) })
    }

    /// This value in units of 10^-`scale`, if it is a whole number of them and fits.
    pub fn units(self, scale: u8) -> Option<i64> {
        if scale >= self.scale {
            let factor = 10i64.checked_pow(u32::from(scale - self.scale))?;
            return self.mantissa.checked_mul(factor);
        }
        if self.mantissa == 0 {
            return Some(0);
        }
        let divisor = 10i64.checked_pow(u32::from(self.scale - scale))?;
        (self.mantissa % divisor == 0).then_some(self.mantissa / divisor)
    }

    /// Whether the value needs more than `scale` digits behind the point. Decided by value: `419.5000` does not at 2.
    pub fn exceeds_scale(self, scale: u8) -> bool {
        if self.scale <= scale || self.mantissa == 0 {
            return false;
        }
        match 10i64.checked_pow(u32::from(self.scale - scale)) {
            Some(divisor) => self.mantissa % divisor != 0,
            None => true,
        }
    }

    /// Compares two values, whatever their writing.
    pub fn cmp_value(self, other: Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        let widen = |d: Self| i128::from(d.mantissa) * 10i128.pow(u32::from(scale - d.scale));
        widen(self).cmp(&widen(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs();
        if self.scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let width = usize::from(self.scale);
        match 10u64.checked_pow(u32::from(self.scale)) {
            Some(unit) => write!(f, "{sign}{}.{:0width$}", digits / unit, digits % unit),
            None => write!(f, "{sign}0.{digits:0width$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, scale: u8) -> Option<i64> {
        Decimal::parse(text).expect(text).units(scale)
    }

    #[test]
    fn reads_by_value() {
        assert_eq!(units("419.50", 2), Some(41_950));
        assert_eq!(units("419.5000", 2), Some(41_950));
        assert_eq!(units("419.505", 2), None);
        assert_eq!(units("-3", 2), Some(-300));
        assert_eq!(units("007", 0), Some(7));
        assert_eq!(units("0.0000000000000000000000000", 2), Some(0));
    }

    #[test]
    fn refuses_what_is_no_decimal_string() {
        for text in ["", "-", ".", "1.", ".5", "+1", "1e3", "1,5", " 1", "1 ", "0x1", "--1", "1.2.3", "NaN", "١"]
        {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        assert_eq!(Decimal::parse(&"9".repeat(65)), None);
    }

    #[test]
    fn too_large_and_too_fine_values_stay_decidable() {
        assert_eq!(Decimal::parse(&"9".repeat(30)).map(|d| d.mantissa), Some(i64::MAX));
        let fine = Decimal::parse("1.0000000000000000000000000001").expect("a decimal string");
        assert!(fine.exceeds_scale(6) && fine.mantissa > 0);
        let tiny = Decimal::parse("0.0000000000000000000000000001").expect("a decimal string");
        assert!(tiny.exceeds_scale(6) && tiny.mantissa > 0);
        assert!(!Decimal::parse("1.50000000000000000000000000").expect("a decimal string").exceeds_scale(2));
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0", "0.5", "419.50", "-0.05", "1000000.000001"] {
            assert_eq!(Decimal::parse(text).expect(text).to_string(), text);
        }
    }
}
