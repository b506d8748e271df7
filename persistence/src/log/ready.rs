//! Keeps the next segment ready ahead of need, by the caller or by a helper thread, and judges whether there is space.

use std::io;

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use tracing::warn;

use super::{Active, AppendError, Log};
use crate::segment::{MakeError, Prepared, SegmentMaker};

/// What the helper is asked.
pub(super) enum Request {
    Make { sequence: u64, size: u32 },
    Retire(Vec<u64>),
}

/// Who makes segments ready.
pub(super) enum Maker {
    /// The caller, when one is needed.
    Inline(Box<SegmentMaker>),
    /// A helper thread, ahead of need.
    Helper {
        requests: Sender<Request>,
        made: Receiver<Result<Prepared, MakeError>>,
        /// Whether a request is with the helper.
        busy: bool,
    },
}

impl Log {
    pub(super) fn judge_space(&mut self) {
        if !self.prepared.is_empty() {
            (self.full, self.read_only) = (None, false);
        } else if self.full.is_some() {
            let room = self.active.as_ref().map_or(0, Active::room);
            self.read_only |= room < self.reserve;
        }
    }

    /// Asks for the next segment, so that it is ready when it is needed.
    pub(super) fn prepare_ahead(&mut self) -> Result<(), AppendError> {
        let stale = |ready: &Prepared| self.sealer.is_stale(ready.header.seal);
        let idle = matches!(self.maker, Maker::Inline(_) | Maker::Helper { busy: false, .. });
        if idle && self.prepared.iter().any(stale) {
            // Made before the newest data key was; they are made again, and never written to.
            self.prepared.clear();
        }
        if !self.prepared.is_empty() || self.full.is_some() {
            return Ok(());
        }
        if matches!(self.maker, Maker::Inline(_)) {
            return self.obtain(0, self.segment_bytes);
        }
        self.ask(0, self.segment_bytes)
    }

    /// Asks the helper for the segment that will be number `place` of those ready, unless it is busy.
    pub(super) fn ask(&mut self, place: usize, size: u32) -> Result<(), AppendError> {
        let sequence = self.first_prepared() + place as u64;
        if let Maker::Helper { requests, busy, .. } = &mut self.maker
            && !*busy
        {
            requests.send(Request::Make { sequence, size }).map_err(|_| helper_gone())?;
            *busy = true;
        }
        Ok(())
    }

    pub(super) fn first_prepared(&self) -> u64 {
        self.kept.back().map_or(self.first_sequence, |kept| kept.sequence + 1)
    }

    /// Takes what the helper has finished.
    pub(crate) fn take_made(&mut self) -> Result<(), AppendError> {
        while let Maker::Helper { made, .. } = &self.maker {
            match made.try_recv() {
                Ok(result) => self.accept(result)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(helper_gone()),
            }
        }
        Ok(())
    }

    /// Takes one result of the maker.
    pub(super) fn accept(&mut self, result: Result<Prepared, MakeError>) -> Result<(), AppendError> {
        if let Maker::Helper { busy, .. } = &mut self.maker {
            *busy = false;
        }
        match result {
            Ok(prepared) => {
                let place = (prepared.header.sequence - self.first_prepared()) as usize;
                if place < self.prepared.len() {
                    self.prepared[place] = prepared;
                } else {
                    assert_eq!(place, self.prepared.len(), "segments are made ready in order");
                    self.prepared.push_back(prepared);
                }
                self.full = None;
            }
            Err(MakeError::NoSpace(error)) => {
                warn!("The next segment can't be made ready: {error}");
                self.full = Some(error.to_string());
            }
            Err(MakeError::Fatal(error)) => {
                self.failed = true;
                return Err(AppendError::Failed(error));
            }
        }
        self.judge_space();
        Ok(())
    }

    /// Gets the segment that will be number `place` of those ready, in `size` bytes, waiting for it. One that the
    /// helper was asked for before comes first, and the caller looks again.
    pub(super) fn obtain(&mut self, place: usize, size: u32) -> Result<(), AppendError> {
        if let Some(reason) = &self.full {
            return Err(AppendError::ReadOnly(reason.clone()));
        }
        let sequence = self.first_prepared() + place as u64;
        self.ask(place, size)?;
        let made = match &mut self.maker {
            Maker::Inline(maker) => maker.make(sequence, size),
            Maker::Helper { made, .. } => made.recv().map_err(|_| helper_gone())?,
        };
        let failed = match &made {
            Err(MakeError::NoSpace(error)) => Some(error.to_string()),
            _ => None,
        };
        self.accept(made)?;
        failed.map_or(Ok(()), |reason| Err(AppendError::ReadOnly(reason)))
    }

    /// Gives the making of segments to a helper thread; returns what that thread runs.
    pub(crate) fn split_maker(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let (requests, asked) = crossbeam::channel::unbounded();
        let (done, made) = crossbeam::channel::unbounded();
        let helper = Maker::Helper { requests, made, busy: false };
        let Maker::Inline(mut maker) = std::mem::replace(&mut self.maker, helper) else {
            return None;
        };
        Some(move || {
            for request in asked {
                let outcome = match request {
                    Request::Make { sequence, size } => Ok(Some(maker.make(sequence, size))),
                    Request::Retire(sequences) => maker.retire(sequences).map(|()| None),
                };
                let result = outcome.unwrap_or_else(|error| match error {
                    MakeError::NoSpace(error) | MakeError::Fatal(error) => Some(Err(MakeError::Fatal(error))),
                });
                if let Some(result) = result
                    && done.send(result).is_err()
                {
                    return;
                }
            }
        })
    }

    /// Where the helper's results arrive, each to be given to [`Log::accept`].
    pub(crate) fn made(&self) -> Receiver<Result<Prepared, MakeError>> {
        match &self.maker {
            Maker::Inline(_) => crossbeam::channel::never(),
            Maker::Helper { made, .. } => made.clone(),
        }
    }
}

pub(super) fn helper_gone() -> AppendError {
    AppendError::Failed(io::Error::other("the helper that makes segments ready is gone"))
}

pub(super) fn make_error(error: MakeError) -> AppendError {
    match error {
        MakeError::NoSpace(error) | MakeError::Fatal(error) => AppendError::Failed(error),
    }
}
