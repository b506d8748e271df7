//! Copies an archive to another store, object by object. Checks all of them, changes none.

use std::collections::BTreeSet;

use super::error::ArchiveError;
use super::name::{ABOUT, PieceKind, TIP};
use super::ship::{Tip, check, parse};
use super::store::{Store, StoreError};
use super::text::Text;

/// Copies a whole archive, checking every object on its way; what is there already is passed by. `tell` gets the
/// number of objects that are done and that there are. Answers the objects and bytes that were copied.
///
/// # Errors
/// A store refused, or an object is damaged or of another cluster.
pub fn copy(from: &dyn Store, to: &dyn Store, mut tell: impl FnMut(u64, u64)) -> Result<(u64, u64), ArchiveError> {
    let failed = |store: &dyn Store, object: &str| {
        let (place, object) = (store.place(), object.to_owned());
        move |error| ArchiveError::Store { place: place.clone(), object: object.clone(), error }
    };
    // First what says how far the histories reach: what is shipped meanwhile lies behind it.
    let tips = from.list(TIP).map_err(failed(from, TIP))?;
    let tips: Result<Vec<_>, _> = tips
        .into_iter()
        .map(|name| from.get(&name).map(|bytes| (name.clone(), bytes)).map_err(failed(from, &name)))
        .collect();
    let tips = tips?;
    let about = from.get(ABOUT).map_err(|error| match error {
        StoreError::Missing => ArchiveError::Empty { place: from.place(), object: ABOUT.into() },
        error => failed(from, ABOUT)(error),
    })?;
    Text::decode(ABOUT, &about)?;
    match to.put_new(ABOUT, about.clone()) {
        Err(StoreError::Exists) if to.get(ABOUT).as_ref() != Ok(&about) => {
            return Err(ArchiveError::Conflict { object: ABOUT.into() });
        }
        Ok(()) | Err(StoreError::Exists) => {}
        Err(error) => return Err(failed(to, ABOUT)(error)),
    }
    let mut names = Vec::new();
    for kind in PieceKind::ALL {
        names.extend(from.list(kind.folder()).map_err(failed(from, kind.folder()))?);
    }
    let there: BTreeSet<String> = to.list("").map_err(failed(to, "all"))?.into_iter().collect();
    let total = names.len() as u64;
    let (mut objects, mut sum) = (0, 0);
    for (number, name) in names.iter().enumerate() {
        tell(number as u64, total);
        if there.contains(name) {
            continue;
        }
        let piece = parse(name)?;
        let bytes = from.get(name).map_err(failed(from, name))?;
        check(&piece, name, &bytes)?;
        objects += 1;
        sum += bytes.len() as u64;
        match to.put_new(name, bytes) {
            Ok(()) | Err(StoreError::Exists) => {}
            Err(error) => return Err(failed(to, name)(error)),
        }
    }
    for (name, bytes) in tips {
        Tip::decode(&name, &bytes)?;
        to.replace(&name, bytes).map_err(failed(to, &name))?;
    }
    tell(total, total);
    Ok((objects, sum))
}
