//! Opens a log: reads and checks the whole folder, cuts a torn tail, and goes on where it ends.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::ready::Maker;
use super::{Active, AppendError, Kept, Log, Options, Recovered};
use crate::SkipMark;
use crate::disk::{Disk, DiskFile};
use crate::error::{Corruption, OpenError};
use crate::folder;
use crate::format::SEGMENT_HEADER;
use crate::poison::noted_poison;
use crate::scan::{Scan, SegmentFile, scan};
use crate::segment::{Identity, Last, Prepared, SegmentMaker};
use crate::snapshot::{SnapshotReader, Snapshots};
use crate::tree_heads::{TreeHead, TreeHeads};
use crate::{Batch, Seal, Sealer};

impl Log {
    /// Opens a data folder, or makes it; reads and checks all of it, cuts a torn tail and says so.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        options.check()?;
        let dir = &options.dir;
        disk.create_dir(dir).map_err(OpenError::disk(dir))?;
        let lock = disk.lock(dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.clone() },
            _ => OpenError::Disk { path: dir.clone(), error },
        })?;
        // Names that a killed process left in the cache must not go with the next power cut, once they are relied on.
        disk.sync_dir(dir).map_err(OpenError::disk(dir))?;
        let (meta, keys) = folder::open(&disk, &options)?;
        let identity = Identity { cluster: meta.cluster, history: meta.history, shards: meta.shards };
        let sealer = Sealer::new(Arc::new(keys), meta.cluster);
        let sealer = if options.seal == Seal::All { sealer.of_everything(options.node) } else { sealer };

        let snapshots = Snapshots::new(Arc::clone(&disk), dir.join("snapshots"), sealer.clone(), identity);
        disk.create_dir(snapshots.dir()).map_err(OpenError::disk(snapshots.dir()))?;
        disk.sync_dir(snapshots.dir()).map_err(OpenError::disk(snapshots.dir()))?;
        let log_dir = dir.join("log");
        disk.create_dir(&log_dir).map_err(OpenError::disk(&log_dir))?;
        remove_leftovers(&*disk, &log_dir)?;
        disk.sync_dir(&log_dir).map_err(OpenError::disk(&log_dir))?;
        let scan_log = || scan(&*disk, &log_dir, identity, Some(sealer.keys()), true);
        let (newest, scan) = if disk.readers() > 1 {
            std::thread::scope(|scope| {
                let newest = scope.spawn(|| snapshots.newest_sound(None));
                let scan = scan_log();
                (newest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), scan)
            })
        } else {
            (snapshots.newest_sound(None), scan_log())
        };
        let (newest, scan) = (newest?, scan?);
        check_snapshots(&scan, newest.as_ref(), &log_dir)?;

        let Options { segment_bytes: bytes, random, replicated, .. } = options;
        let maker = SegmentMaker::new(Arc::clone(&disk), &log_dir, identity, bytes, random, sealer.clone());
        let stated = scan.heads.iter().filter_map(|stated| Some((stated.shard, stated.head.clone()?)));
        let stated: Vec<_> = stated.collect();
        let log = Self::resume(&*disk, maker, &scan, stated.clone(), sealer.clone(), lock)?;
        let votes = scan.votes.latest();
        let voted = votes.iter().flatten().map(|vote| vote.term);
        let term = scan.last.iter().map(|last| last.term).chain(voted).max().unwrap_or(0);
        let mut skips = scan.skips;
        let noted = noted_poison(&*disk, dir).map_err(OpenError::disk(dir))?;
        let noted: Vec<SkipMark> = noted.into_iter().filter(|mark| !skips.contains(mark)).collect();
        skips.extend(&noted);
        let recovered = Recovered {
            history: meta.history,
            cluster: meta.cluster,
            last: scan.last,
            term,
            votes,
            tree_heads: stated,
            skips,
            noted,
            cuts: scan.cuts,
            snapshot: newest,
            snapshots,
            sealer,
            disk,
            files: scan.used,
            overwrites: scan.overwrites,
            terms: scan.terms,
            // Also where a tool reads a node's folder that was stopped.
            replicated: replicated || meta.history.0 == meta.cluster,
        };
        info!(
            log.records = scan.records,
            log.segments = recovered.files.len(),
            log.history = %recovered.history,
            "Log opened: {} records in {} segments",
            scan.records,
            recovered.files.len(),
        );
        Ok((log, recovered))
    }

    fn resume(
        disk: &dyn Disk,
        maker: SegmentMaker,
        scan: &Scan,
        stated: Vec<(u16, TreeHead)>,
        sealer: Sealer,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Self, OpenError> {
        for cut in &scan.cuts {
            warn!(
                log.file = %cut.file.display(),
                log.offset = cut.offset,
                "Torn tail cut in {} at offset {}: {}; nobody was answered for it",
                cut.file.display(),
                cut.offset,
                cut.found,
            );
        }
        let mut active = None;
        if let Some(file) = scan.used.last() {
            let at = OpenError::disk(&file.path);
            let opened = disk.open(&file.path).map_err(&at)?;
            let size = file.header.segment_bytes;
            if scan.cuts.iter().any(|cut| cut.file == file.path) {
                erase(&*opened, file.end, size as usize).map_err(&at)?;
            }
            active = Some(Active {
                file: opened,
                generation: file.header.generation,
                size,
                offset: file.end as u32,
                seal: None,
                closed: sealer.seals_everything() || file.header.seal.is_some(),
            });
        }
        // One is enough; and one whose first flush was torn must hold nothing when it is used. From the last on,
        // so that no hole appears.
        let torn = |file: &SegmentFile| scan.cuts.iter().any(|cut| cut.file == file.path);
        // Nor may it have been sealed by another process, or not be sealed when everything is.
        let plain = |file: &SegmentFile| file.header.seal.is_none() && !sealer.seals_everything();
        let usable = usize::from(scan.prepared.first().is_some_and(|first| !torn(first) && plain(first)));
        for file in scan.prepared.iter().skip(usable).rev() {
            disk.remove(&file.path).map_err(OpenError::disk(&file.path))?;
            disk.sync_dir(&maker.dir).map_err(OpenError::disk(&maker.dir))?;
        }
        let mut prepared = VecDeque::new();
        if let Some(file) = scan.prepared.first().filter(|_| usable == 1) {
            let opened = disk.open(&file.path).map_err(OpenError::disk(&file.path))?;
            prepared.push_back(Prepared { file: opened, header: file.header, sealer: None });
        }
        let kept = scan.used.iter().map(|file| Kept {
            sequence: file.header.sequence,
            base: file.opening.as_ref().map(|opening| opening.base.clone()).unwrap_or_default(),
        });
        let (segment_bytes, log_dir, reach) = (maker.segment_bytes, maker.dir.clone(), Arc::clone(&maker.reach));
        let base = |file: &SegmentFile| file.opening.as_ref().map(|opening| opening.base.clone());
        let begins = scan.used.last().and_then(base).unwrap_or_else(|| vec![Last::default(); scan.last.len()]);
        let mut log = Self {
            active,
            first_sequence: 1,
            prepared,
            kept: kept.collect(),
            last: scan.last.clone(),
            votes: scan.votes.clone(),
            heads: Arc::new(TreeHeads::new(&begins, stated)),
            stating: Batch::new(),
            segment_bytes,
            reserve: (segment_bytes as usize / 64).max(4096),
            maker: Maker::Inline(Box::new(maker)),
            full: None,
            read_only: false,
            failed: false,
            opening: Batch::new(),
            covered: vec![0; scan.last.len()],
            reach,
            sealer,
            sealed: Vec::new(),
            _lock: lock,
        };
        match log.prepare_ahead() {
            Ok(()) | Err(AppendError::ReadOnly(_)) => {}
            Err(AppendError::Failed(error)) => return Err(OpenError::Disk { path: log_dir, error }),
        }
        log.judge_space();
        log.tell_reach();
        Ok(log)
    }
}

/// Removes segments that were being made when the process ended.
fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for name in disk.list(dir).map_err(OpenError::disk(dir))? {
        if name.ends_with(".new") {
            let path = dir.join(name);
            disk.remove(&path).map_err(OpenError::disk(&path))?;
        }
    }
    Ok(())
}

/// Writes zeros over a torn tail, so that nothing of it can be taken for a record once the log has gone on.
fn erase(file: &dyn DiskFile, from: usize, to: usize) -> io::Result<()> {
    let zeros = vec![0; 256 << 10];
    let mut offset = from;
    while offset < to {
        let end = (offset + zeros.len()).min(to);
        file.write_at(offset as u64, &[&zeros[..end - offset]])?;
        offset = end;
    }
    file.sync_data()
}

/// The log must begin before the end of the newest snapshot and reach it.
fn check_snapshots(scan: &Scan, newest: Option<&SnapshotReader>, log_dir: &Path) -> Result<(), OpenError> {
    let base = scan.used.first().and_then(|file| file.opening.as_ref()).map(|first| &first.base);
    let first = scan.used.first().map_or(log_dir, |file| &file.path);
    for (shard, last) in scan.last.iter().enumerate() {
        let begins = base.map_or(0, |base| base[shard].index);
        let reaches = newest.map_or(0, |snapshot| snapshot.indices()[shard]);
        let corrupt = |what, expected, found| {
            let (file, offset) = (first.to_owned(), SEGMENT_HEADER as u64);
            Err(Corruption { file, offset, what, expected, found }.into())
        };
        if begins > reaches {
            return corrupt(
                "entries between the newest sound snapshot and the first segment are missing",
                format!("index {} of shard {shard}", reaches + 1),
                format!("index {}", begins + 1),
            );
        }
        if last.index < reaches {
            return corrupt(
                "the log ends before a snapshot that was made of it",
                format!("index {reaches} of shard {shard}"),
                format!("index {}", last.index),
            );
        }
    }
    Ok(())
}
