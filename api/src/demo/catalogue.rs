//! What is bought in a demo, and under which rules: car parts with numbers that look like their makers', prices of the
//! trade, one practice tender a format.

use std::time::Duration;

use serde_json::{Value, json};

use super::dice::Dice;

/// A practice tender of each format; the English one is the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Practice {
    /// Three lots side by side.
    English,
    /// Sealed bids, second price.
    Sealed,
    /// A price that rises until somebody accepts.
    Dutch,
    /// Levels that fall until one is left.
    Japanese,
    /// Rounds of turns behind pre-bids.
    Rounds,
}

impl Practice {
    /// All of them, the main one first.
    pub const ALL: [Self; 5] = [Self::English, Self::Sealed, Self::Dutch, Self::Japanese, Self::Rounds];

    /// How its references begin; by it a later run finds them. None is the beginning of another.
    pub const fn reference(self) -> &'static str {
        match self {
            Self::English => "PRACTICE-",
            Self::Sealed => "SEALED-PRACTICE-",
            Self::Dutch => "DUTCH-PRACTICE-",
            Self::Japanese => "JAPANESE-PRACTICE-",
            Self::Rounds => "ROUNDS-PRACTICE-",
        }
    }

    /// Between publication and opening: who wants to take part from the first level or turn on needs a moment. None:
    /// it opens at once.
    pub const fn notice(self) -> Option<Duration> {
        match self {
            Self::English | Self::Sealed | Self::Dutch => None,
            Self::Japanese => Some(Duration::from_secs(25)),
            Self::Rounds => Some(Duration::from_secs(45)),
        }
    }
}

/// A part.
struct Part {
    title: &'static str,
    number: &'static str,
    quantity: u32,
    /// Highest price of the whole lot, in riyals.
    ceiling: u32,
    /// Smallest step down, in riyals.
    step: u32,
}

const fn part(title: &'static str, number: &'static str, quantity: u32, ceiling: u32, step: u32) -> Part {
    Part { title, number, quantity, ceiling, step }
}

const PARTS: [Part; 12] = [
    part("Front bumper cover, Toyota Hilux 2021", "52119-0K983", 24, 26_400, 100),
    part("Headlamp assembly left, Hyundai Elantra 2022", "92101-AA150", 18, 21_600, 100),
    part("Radiator, Nissan Patrol Y62", "21460-1LA1A", 10, 14_500, 50),
    part("Brake disc front, Toyota Land Cruiser 2019", "43512-60191", 40, 19_200, 80),
    part("Alternator 130 A, Kia Sportage 2020", "37300-2E600", 12, 15_900, 75),
    part("Door mirror right, Ford Ranger 2020", "JB3B-17682-CE", 16, 12_800, 50),
    part("Compressor A/C, Toyota Camry 2018", "88310-33250", 8, 16_400, 80),
    part("Shock absorber rear, Isuzu D-Max 2022", "8-98270-913-0", 32, 13_400, 60),
    part("Grille, Hyundai Tucson 2021", "86350-N9010", 20, 17_000, 75),
    part("Water pump, Mitsubishi L200 2019", "1300A098", 30, 9_600, 40),
    part("Tail lamp right, Toyota Corolla 2020", "81551-02S40", 26, 14_300, 60),
    part("Fuel injector, Nissan Navara 2021", "16600-5X30A", 24, 28_800, 120),
];

/// Lengths of the three lots, in seconds: they end one after another, so that there is always something to see.
const LENGTHS_S: [u32; 3] = [180, 240, 300];

/// The body of a new practice tender, without its opening time.
pub fn tender(practice: Practice, dice: &mut Dice) -> Value {
    let first = dice.between(0, PARTS.len() as u64 - 1) as usize;
    let part = |at: usize| &PARTS[(first + at * 5) % PARTS.len()];
    let (title, description, lots) = match practice {
        Practice::English => (
            format!("Spare parts, practice order {}", dice.between(1_000, 9_999)),
            "A practice tender. Three robots bid; join in as the fourth. The second lot takes secret limits.",
            LENGTHS_S.iter().enumerate().map(|(at, seconds)| english(part(at), *seconds, at == 1)).collect(),
        ),
        Practice::Sealed => (
            format!("Sealed bids: {}", part(0).title),
            "Nobody sees a bid before the lot closes; the winner is paid what the next bid would have cost.",
            vec![lot(part(0), sealed(part(0)))],
        ),
        Practice::Dutch => (
            format!("Dutch: {}", part(0).title),
            "The price rises each eight seconds until somebody accepts it. Robots wait for their price.",
            vec![lot(part(0), dutch(part(0)))],
        ),
        Practice::Japanese => (
            format!("Japanese: {}", part(0).title),
            "The price falls level by level; who does not accept a level is out. Be there when it opens.",
            vec![lot(part(0), japanese(part(0)))],
        ),
        Practice::Rounds => (
            format!("Rounds: {}", part(0).title),
            "Three rounds of turns, the worst first. Leave a bid before it opens to take part.",
            vec![lot(part(0), rounds(part(0)))],
        ),
    };
    json!({
        "title": title,
        "description": description,
        "reference": format!("{}{}", practice.reference(), dice.between(100_000, 999_999)),
        "currency": "SAR",
        "access": "open",
        "lots": lots,
    })
}

fn riyals(amount: u32) -> String {
    format!("{amount}.00")
}

fn lot(part: &Part, rules: Value) -> Value {
    json!({
        "title": part.title,
        "items": [{
            "description": format!("OEM {}, new, original packing", part.number),
            "quantity": part.quantity.to_string(),
            "unit": "piece",
        }],
        "rules": rules,
    })
}

fn english(part: &Part, seconds: u32, limits: bool) -> Value {
    let rules = json!({
        "format": "english",
        "duration_s": seconds,
        "ceiling": riyals(part.ceiling),
        "reserve": { "price": riyals(part.ceiling * 88 / 100), "shown": false },
        "decrement": { "kind": "amount", "value": riyals(part.step) },
        "overtime": { "window_s": 45, "length_s": 45, "mode": "reset", "trigger": "lead", "max_total_s": 900 },
        "auto_bid": limits,
    });
    lot(part, rules)
}

fn sealed(part: &Part) -> Value {
    json!({
        "format": "sealed", "duration_s": 150, "ceiling": riyals(part.ceiling), "sealed": { "pricing": "second" },
    })
}

/// From half the highest price upwards by a fiftieth.
fn dutch(part: &Part) -> Value {
    json!({
        "format": "dutch", "ceiling": riyals(part.ceiling), "award": "automatic",
        "dutch": { "start": riyals(part.ceiling / 2), "step": riyals(part.ceiling / 50), "interval_s": 8 },
    })
}

/// From the highest price downwards by a twenty-fifth.
fn japanese(part: &Part) -> Value {
    json!({
        "format": "japanese",
        "japanese": {
            "start": riyals(part.ceiling), "step": riyals(part.ceiling / 25), "interval_s": 15,
            "floor": riyals(part.ceiling / 2),
        },
    })
}

fn rounds(part: &Part) -> Value {
    json!({
        "format": "rounds", "ceiling": riyals(part.ceiling), "prebid": "required",
        "decrement": { "kind": "percent", "value": "0.5" },
        "rounds": { "count": 3, "turn_s": 20, "pause_s": 10, "lead_in_s": 10, "announce_s": 10 },
        "visibility": { "board": true },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_run_finds_each_tender_by_its_reference_and_no_other() {
        let mut dice = Dice::new();
        for practice in Practice::ALL {
            for _ in 0..20 {
                let body = tender(practice, &mut dice);
                let reference = body["reference"].as_str().expect("a reference");
                let found: Vec<Practice> = Practice::ALL
                    .into_iter()
                    .filter(|practice| reference.starts_with(practice.reference()))
                    .collect();
                assert_eq!(found, [practice]);
                let lots = body["lots"].as_array().expect("lots");
                let titles: std::collections::BTreeSet<_> = lots.iter().map(|lot| lot["title"].as_str()).collect();
                assert_eq!(titles.len(), if practice == Practice::English { 3 } else { 1 }, "different parts");
            }
        }
    }
}
