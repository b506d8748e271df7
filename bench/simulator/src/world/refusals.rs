//! What a start that refuses must say: the file, the place in it where there is one, what was expected and what was
//! found there, and what to do. Knows the words of every refusal; anything else is a broken promise.

/// What a refused start is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The device refused: nothing is said of what it holds.
    Device,
    /// Something that was durable is damaged or gone.
    Damage,
}

/// Words that tell one kind of refusal from all others, what it is about, and what else it must say.
type Kind = (&'static str, Refusal, &'static [&'static str]);

/// Numbers and names in a text are written as `#` here.
const KINDS: &[Kind] = &[
    ("belongs to another log", Refusal::Damage, &["expected ", ", found ", "give the folder"]),
    ("is not known to this program", Refusal::Damage, &["version #", "reads version #", "start the program"]),
    ("an entry can't be read", Refusal::Damage, &["offset #: ", "Start the program", "restore"]),
    ("the key file is damaged", Refusal::Damage, &["restore it from its backup"]),
    ("the key is missing", Refusal::Damage, &["restore the keys folder"]),
    ("this master key is not the one", Refusal::Damage, &["give the keys folder"]),
    ("does not open at this place", Refusal::Damage, &["restore the file"]),
    ("can't be loaded", Refusal::Damage, &["older one and the log"]),
    (
        "Restore this data folder",
        Refusal::Damage,
        &["offset #: ", ": expected ", ", found ", "Nothing was changed"],
    ),
    ("restore the folder `audit`", Refusal::Damage, &["offset #: "]),
    ("Too many open files", Refusal::Device, &["Raise the limit of open files", "start again"]),
    ("the device failed", Refusal::Device, &["start again"]),
    ("no storage space", Refusal::Device, &["start again"]),
];

/// What a refusal is about.
///
/// # Errors
/// What its text lacks.
pub fn read(text: &str) -> Result<Refusal, String> {
    if !["/data", "/keys"].iter().any(|folder| text.contains(folder)) {
        return Err(format!("it names no file: {text}"));
    }
    let plain = plain(text);
    let Some((_, refusal, needed)) = KINDS.iter().find(|(word, ..)| plain.contains(word)) else {
        return Err(format!("it does not say what is wrong in known words: {text}"));
    };
    match needed.iter().find(|part| !plain.contains(**part)) {
        Some(part) => Err(format!("it lacks \"{part}\": {text}")),
        None => Ok(*refusal),
    }
}

/// A text with every decimal number as `#`.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_place_or_advice_is_none() {
        let whole = "/data/log/0000000000000001.seg, offset 4096: damaged: expected checksum 0x1, found 0x2. Nothing \
                     was changed. Restore this data folder from a backup";
        assert_eq!(read(whole), Ok(Refusal::Damage));
        for part in ["offset 4096: ", "expected checksum", ", found 0x2", "Restore this data folder", "/data/log/"]
        {
            assert!(read(&whole.replacen(part, "", 1)).is_err(), "without {part}");
        }
        assert_eq!(read("/data/log: the device failed. Look there, then start again").ok(), Some(Refusal::Device));
        assert!(read("/data/log: the device failed").is_err());
        assert!(read("/data/log: something is wrong").is_err());
    }
}
