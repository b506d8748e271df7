//! The data folder as a whole: which cluster and history it belongs to, and whether its keys are the right ones.
//!
//! Made once, before there is a log; never written again.

use std::sync::Arc;

use crate::HistoryId;
use crate::disk::Disk;
use crate::error::{Corruption, OpenError};
use crate::keys::{KeyError, Keys};
use crate::log::Options;
use crate::meta::Meta;
use crate::segment::sequence_of;

/// Reads or makes the folder's description and its keys.
pub(crate) fn open(disk: &Arc<dyn Disk>, options: &Options) -> Result<(Meta, Keys), OpenError> {
    let dir = &options.dir;
    let known = Meta::read(&**disk, dir)?;
    let open = |create| match &options.master {
        Some(master) => master.keys(Arc::clone(disk), &options.keys_dir, options.random),
        None => Keys::open(Arc::clone(disk), &options.keys_dir, options.random, create),
    };
    if let Some(meta) = known {
        let file = dir.join(crate::meta::NAME);
        if let Some(expected) = options.cluster.filter(|cluster| *cluster != meta.cluster) {
            let (expected, found) = (crate::uuid_text(expected), crate::uuid_text(meta.cluster));
            return Err(OpenError::Foreign { file, what: "cluster", expected, found });
        }
        let keys = open(false)?;
        if key_check(&keys, meta.cluster) != meta.key_check {
            return Err(KeyError::WrongMaster { path: keys.master_path() }.into());
        }
        return Ok((meta, keys));
    }
    let log_dir = dir.join("log");
    let names = disk.list(&log_dir).map_err(OpenError::disk(&log_dir))?;
    if names.iter().any(|name| sequence_of(name).is_some()) {
        return Err(Corruption {
            file: dir.join(crate::meta::NAME),
            offset: 0,
            what: "the folder has segments but no description",
            expected: "a file".into(),
            found: "none".into(),
        }
        .into());
    }
    let keys = open(true)?;
    let random = || {
        let mut bytes = [0; 16];
        (options.random)(&mut bytes);
        uuid_v4(bytes)
    };
    let cluster = options.cluster.unwrap_or_else(random);
    let meta = Meta {
        cluster,
        // All nodes of a new cluster begin one history, without having spoken.
        history: HistoryId(if options.replicated { cluster } else { random() }),
        key_check: key_check(&keys, cluster),
        shards: options.shards,
    };
    meta.write(&**disk, dir).map_err(OpenError::disk(&dir.join(crate::meta::NAME)))?;
    Ok((meta, keys))
}

/// What shows that a master key is the one of a cluster, and tells nothing of it.
pub(crate) fn key_check(keys: &Keys, cluster: u128) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&keys.derive("check the master key", cluster)[..16]);
    check
}

/// Random bytes as a version 4 UUID.
pub(crate) fn uuid_v4(bytes: [u8; 16]) -> u128 {
    let bits = u128::from_be_bytes(bytes);
    (bits & !(0xF << 76) & !(0x3 << 62)) | (4 << 76) | (2 << 62)
}
