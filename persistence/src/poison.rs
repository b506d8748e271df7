//! The commands that panicked in a node among several: noted before the process stops, because the entry may lie behind
//! the last commit mark in the log, where no replay meets it. What is committed stays so, and with it its note.

use std::io;
use std::path::Path;

use crate::SkipMark;
use crate::disk::{Disk, read_all, replace};

/// The file in the data folder: a line each, shard, index and position.
const NAME: &str = "poison";

/// Notes that a committed command panicked when it was applied; durable when this returns.
///
/// # Errors
/// Those of the disk; `InvalidData` when the file is none of notes.
pub fn note_poison(disk: &dyn Disk, data: &Path, mark: SkipMark) -> io::Result<()> {
    let mut marks = noted_poison(disk, data)?;
    if marks.contains(&mark) {
        return Ok(());
    }
    marks.push(mark);
    let line = |mark: &SkipMark| format!("{} {} {}\n", mark.shard, mark.index, mark.position);
    let text: String = marks.iter().map(line).collect();
    replace(disk, data, NAME, text.as_bytes())
}

/// What was noted in a data folder.
///
/// # Errors
/// As [`note_poison`].
pub fn noted_poison(disk: &dyn Disk, data: &Path) -> io::Result<Vec<SkipMark>> {
    let file = match disk.open(&data.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let bytes = read_all(&*file)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{NAME} should hold three numbers a line"));
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    let mark = |line: &str| {
        let mut parts = line.split(' ');
        let mark = SkipMark {
            shard: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
            position: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(mark)
    };
    text.lines().map(|line| mark(line).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Crash, FaultyDisk};

    #[test]
    fn a_note_survives_the_power_and_is_made_once() {
        let disk = FaultyDisk::new();
        let data = Path::new("/data");
        disk.create_dir(data).expect("made");
        disk.sync_dir(Path::new("/")).expect("synced");
        assert_eq!(noted_poison(&disk, data).expect("none yet"), []);
        let [one, two] = [5, 9].map(|index| SkipMark { shard: 1, index, position: 3 });
        for mark in [one, two, one] {
            note_poison(&disk, data, mark).expect("noted");
        }
        disk.restart(Crash::Lost);
        assert_eq!(noted_poison(&disk, data).expect("read"), [one, two]);
        replace(&disk, data, NAME, b"1 2\n").expect("written");
        assert!(noted_poison(&disk, data).is_err(), "what can't be read is not passed by in silence");
    }
}
