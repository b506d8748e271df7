//! What a bidder was admitted with: adjustments and weights won, and how they become the adjustment of each lot.

use wincode::{SchemaRead, SchemaWrite};

use crate::adjust::{Adjust, FACTOR_MAX};
use crate::rules::{WEIGHT_DIGITS, WEIGHT_ONE};
use crate::{AdjustmentSpec, BidderNumber, Decimal, FeatureValue, Format, PRICE_MAX, RuleError, Rules};

/// As the buyer sent it.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Admission {
    pub bidder: BidderNumber,
    pub adjustments: Vec<AdjustmentSpec>,
    pub features: Vec<FeatureValue>,
}

fn greatest_divisor(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// A positive fraction in lowest terms.
fn fraction(over: i128, under: i128) -> Option<(i64, i64)> {
    if over <= 0 || under <= 0 {
        return None;
    }
    let divisor = greatest_divisor(over, under);
    let (over, under) = (over / divisor, under / divisor);
    let most = i128::from(FACTOR_MAX);
    (over <= most && under <= most).then_some((over as i64, under as i64))
}

/// Reads `"19/17"` or `"0.5"`.
fn factor(text: &str) -> Option<(i64, i64)> {
    let whole = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<i128>().ok() } else { None }
    };
    if let Some((over, under)) = text.split_once('/') {
        return fraction(whole(over)?, whole(under)?);
    }
    let decimal = Decimal::parse(text)?;
    fraction(i128::from(decimal.mantissa), 10i128.checked_pow(u32::from(decimal.scale))?)
}

fn wrong(pointer: String, detail: &str, valid: &str) -> RuleError {
    RuleError { pointer, detail: detail.to_owned(), valid: valid.to_owned() }
}

/// The adjustment of each lot, by number, or what is wrong; `rules` are those of the lots, by number.
pub(crate) fn adjusts(
    rules: &[&Rules],
    adjustments: &[AdjustmentSpec],
    features: &[FeatureValue],
) -> Result<Vec<Adjust>, Vec<RuleError>> {
    let mut errors = Vec::new();
    let mut found: Vec<Adjust> = vec![Adjust::NONE; rules.len()];
    let mut has_factor = vec![false; rules.len()];
    let mut is_named = vec![false; rules.len()];
    let lot_of = |number: i64| usize::try_from(number).ok()?.checked_sub(1).filter(|lot| *lot < rules.len());
    let takes = |lot: usize| matches!(rules[lot].format, Format::English | Format::Sealed | Format::Rounds);
    for (place, sent) in adjustments.iter().enumerate() {
        let at = format!("/adjustments/{place}");
        let Some(lot) = lot_of(sent.lot) else {
            errors.push(wrong(format!("{at}/lot"), "is no lot of the tender", "the number of a lot"));
            continue;
        };
        if std::mem::replace(&mut is_named[lot], true) {
            errors.push(wrong(format!("{at}/lot"), "is named twice", "each lot once"));
        }
        if !takes(lot) {
            let detail = format!("has format {}, which has no adjustments", rules[lot].format.word());
            errors.push(wrong(format!("{at}/lot"), &detail, "a lot of english, sealed or rounds"));
        }
        if let Some(text) = &sent.factor {
            has_factor[lot] = true;
            match factor(text) {
                Some((numerator, denominator)) => {
                    (found[lot].numerator, found[lot].denominator) = (numerator, denominator);
                }
                None => {
                    let valid = "a positive decimal or fraction, above and below the line up to 1000000000";
                    errors.push(wrong(format!("{at}/factor"), "is no factor", valid));
                }
            }
        }
        if let Some(addend) = sent.addend {
            let scale = rules[lot].price_scale;
            match addend.units(scale).filter(|units| units.abs() <= PRICE_MAX.0) {
                Some(units) => found[lot].addend = units,
                None => {
                    let valid = format!("up to {}, {scale} digits behind the point", PRICE_MAX.decimal(scale));
                    errors.push(wrong(format!("{at}/addend"), "is no amount on the lot's scale", &valid));
                }
            }
        }
    }
    let mut won: Vec<Vec<Option<i64>>> = rules.iter().map(|rules| vec![None; rules.features.len()]).collect();
    for (place, sent) in features.iter().enumerate() {
        let at = format!("/features/{place}");
        let Some(lot) = lot_of(sent.lot) else {
            errors.push(wrong(format!("{at}/lot"), "is no lot of the tender", "the number of a lot"));
            continue;
        };
        if has_factor[lot] {
            errors.push(wrong(format!("{at}/lot"), "has a factor already", "features or a factor"));
        }
        let Some(feature) = rules[lot].features.iter().position(|(id, _)| *id == sent.id) else {
            errors.push(wrong(format!("{at}/id"), "is no feature of the lot", "a feature of its rules"));
            continue;
        };
        let most = rules[lot].features[feature].1;
        let value = sent.value.units(WEIGHT_DIGITS).filter(|value| (0..=most).contains(value));
        if value.is_none() {
            let valid = format!("from 0 to {}", Decimal { mantissa: most, scale: WEIGHT_DIGITS });
            errors.push(wrong(format!("{at}/value"), "is out of range", &valid));
        }
        if won[lot][feature].replace(value.unwrap_or(0)).is_some() {
            errors.push(wrong(format!("{at}/id"), "is named twice", "each feature once"));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for (lot, won) in won.iter().enumerate() {
        let won: i64 = won.iter().flatten().sum();
        if won > 0 {
            // 1 / K with K = 1 + won / (1 − max).
            let rest = WEIGHT_ONE - rules[lot].features.iter().map(|(_, max)| max).sum::<i64>();
            let factor = fraction(i128::from(rest), i128::from(rest + won)).expect("weights are small");
            (found[lot].numerator, found[lot].denominator) = factor;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_exactly() {
        assert_eq!(factor("19/17"), Some((19, 17)));
        assert_eq!(factor("38/34"), Some((19, 17)));
        assert_eq!(factor("0.5"), Some((1, 2)));
        assert_eq!(factor("1.000"), Some((1, 1)));
        for text in ["", "0", "-1", "0/1", "1/0", "1/", "/2", "1/2/3", "1e3", "1000000001", "a", "1/1000000007"] {
            assert_eq!(factor(text), None, "{text}");
        }
    }
}
