//! What is bought in a demo: car parts with numbers that look like their makers', and prices of the trade.

use serde_json::{Value, json};

use super::dice::Dice;

/// How the references of practice tenders begin; by it a later run finds them.
pub const REFERENCE: &str = "PRACTICE-";

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

/// The body of a new practice tender of three lots.
pub fn tender(dice: &mut Dice) -> Value {
    let first = dice.between(0, PARTS.len() as u64 - 1) as usize;
    let lots: Vec<Value> = LENGTHS_S
        .iter()
        .enumerate()
        .map(|(at, seconds)| lot(&PARTS[(first + at * 5) % PARTS.len()], *seconds))
        .collect();
    json!({
        "title": format!("Spare parts, practice order {}", dice.between(1_000, 9_999)),
        "description": "A practice tender. Three robots bid; join in as the fourth.",
        "reference": format!("{REFERENCE}{}", dice.between(100_000, 999_999)),
        "currency": "SAR",
        "access": "open",
        "lots": lots,
    })
}

fn lot(part: &Part, seconds: u32) -> Value {
    let reserve = part.ceiling * 88 / 100;
    json!({
        "title": part.title,
        "items": [{
            "description": format!("OEM {}, new, original packing", part.number),
            "quantity": part.quantity.to_string(),
            "unit": "piece",
        }],
        "rules": {
            "format": "english",
            "duration_s": seconds,
            "ceiling": format!("{}.00", part.ceiling),
            "reserve": { "price": format!("{reserve}.00"), "shown": false },
            "decrement": { "kind": "amount", "value": format!("{}.00", part.step) },
            "overtime": {
                "window_s": 45, "length_s": 45, "mode": "reset", "trigger": "lead", "max_total_s": 900,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_practice_tender_is_one_the_engine_takes_in_form() {
        let mut dice = Dice::new();
        for _ in 0..50 {
            let body = tender(&mut dice);
            let lots = body["lots"].as_array().expect("lots");
            let titles: std::collections::BTreeSet<_> = lots.iter().map(|lot| lot["title"].as_str()).collect();
            assert_eq!(titles.len(), 3, "three different parts");
            assert!(body["reference"].as_str().is_some_and(|reference| reference.starts_with(REFERENCE)));
        }
    }
}
