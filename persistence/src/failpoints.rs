//! Where a test makes the machine fail under the real program: it is killed beside the n-th call to the disk, a call is
//! refused, or a write is cut short. Compiled only with the feature `failpoints`, which only tests switch on.
//!
//! Told by the environment, and heeded only by `serve`, so that the second process that verifies a snapshot is left
//! alone:
//! - `RT_TEST_KILL_AT=CALL:N:PART`: SIGKILL to itself at the N-th call; `before` it, `after` it, or when `half` of what
//!   it writes is written.
//! - `RT_TEST_FAIL_AT=CALL:NAME:WHEN:ERROR`: the call answers `EIO`, `ENOSPC` or `EMFILE`; only calls to files whose path holds
//!   NAME are counted; WHEN is `N`, or `N+` for the N-th and all after it. A write that is refused has written half.
//! - `RT_TEST_SHORT_WRITES=SEED`: each write is interrupted or takes only a part, most of the time.
//! - `RT_TEST_CALLS=FILE`: each call is appended there as a line `CALL PATH` before it is made; `failed CALL PATH`
//!   follows where it was refused, `short` where a write was not whole.

use std::env;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

/// A call that changes what is on the disk, or makes it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    CreateDir,
    Create,
    Write,
    SyncData,
    SyncAll,
    SyncDir,
    Rename,
    Remove,
}

impl Call {
    const ALL: [Self; 8] = [
        Self::CreateDir,
        Self::Create,
        Self::Write,
        Self::SyncData,
        Self::SyncAll,
        Self::SyncDir,
        Self::Rename,
        Self::Remove,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CreateDir => "create_dir",
            Self::Create => "create",
            Self::Write => "write",
            Self::SyncData => "sync_data",
            Self::SyncAll => "sync_all",
            Self::SyncDir => "sync_dir",
            Self::Rename => "rename",
            Self::Remove => "remove",
        }
    }

    fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|call| call.name() == name);
        found.unwrap_or_else(|| panic!("`{name}` is no call of the disk"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    Half,
    After,
}

#[derive(Debug)]
struct Kill {
    call: Call,
    at: u64,
    part: Part,
}

#[derive(Debug)]
struct Fail {
    call: Call,
    name: String,
    at: u64,
    for_ever: bool,
    error: Errno,
    seen: AtomicU64,
}

#[derive(Debug, Default)]
struct Plan {
    kill: Option<Kill>,
    fail: Option<Fail>,
    short: Option<AtomicU64>,
    calls: Option<File>,
    counts: [AtomicU64; Call::ALL.len()],
}

fn kill_of(text: &str) -> Kill {
    let [call, at, part] = text.split(':').collect::<Vec<_>>()[..] else { panic!("RT_TEST_KILL_AT={text}") };
    let part = match part {
        "before" => Part::Before,
        "half" => Part::Half,
        "after" => Part::After,
        _ => panic!("RT_TEST_KILL_AT={text}"),
    };
    Kill { call: Call::named(call), at: at.parse().expect("a number"), part }
}

fn fail_of(text: &str) -> Fail {
    let [call, name, when, error] = text.split(':').collect::<Vec<_>>()[..] else {
        panic!("RT_TEST_FAIL_AT={text}")
    };
    let error = match error {
        "EIO" => Errno::IO,
        "ENOSPC" => Errno::NOSPC,
        "EMFILE" => Errno::MFILE,
        _ => panic!("RT_TEST_FAIL_AT={text}"),
    };
    let at = when.trim_end_matches('+').parse().expect("a number");
    let for_ever = when.ends_with('+');
    Fail { call: Call::named(call), name: name.to_owned(), at, for_ever, error, seen: AtomicU64::new(0) }
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        if env::args().nth(1).as_deref() != Some("serve") {
            return Plan::default();
        }
        let told = |name: &str| env::var(name).ok();
        let append = |path: String| fs::OpenOptions::new().create(true).append(true).open(path);
        Plan {
            kill: told("RT_TEST_KILL_AT").map(|text| kill_of(&text)),
            fail: told("RT_TEST_FAIL_AT").map(|text| fail_of(&text)),
            short: told("RT_TEST_SHORT_WRITES").map(|text| AtomicU64::new(text.parse().expect("a seed"))),
            calls: told("RT_TEST_CALLS").map(|path| append(path).expect("a file for the calls")),
            counts: Default::default(),
        }
    })
}

/// What is to happen at one call.
enum Verdict {
    Go,
    Kill(Part),
    Fail(Errno),
}

impl Plan {
    fn note(&self, line: &str) {
        if let Some(calls) = &self.calls {
            // One write, so that lines of several threads don't mix.
            (&*calls).write_all(line.as_bytes()).expect("the calls can be noted");
        }
    }

    fn judge(&self, call: Call, path: impl FnOnce() -> PathBuf) -> Verdict {
        let number = self.counts[call as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let path = if self.calls.is_some() || self.fail.is_some() { path() } else { PathBuf::new() };
        self.note(&format!("{} {}\n", call.name(), path.display()));
        if let Some(kill) = &self.kill
            && (kill.call, kill.at) == (call, number)
        {
            return Verdict::Kill(kill.part);
        }
        if let Some(fail) = &self.fail
            && fail.call == call
            && path.to_string_lossy().contains(&fail.name)
        {
            let seen = fail.seen.fetch_add(1, Ordering::Relaxed) + 1;
            if seen == fail.at || fail.for_ever && seen > fail.at {
                self.note(&format!("failed {} {}\n", call.name(), path.display()));
                return Verdict::Fail(fail.error);
            }
        }
        Verdict::Go
    }
}

fn die() -> ! {
    let sent = kill_process(getpid(), Signal::KILL);
    unreachable!("nobody outlives SIGKILL: {sent:?}")
}

/// Makes a call, unless the plan has something else for it.
pub(crate) fn around<T>(call: Call, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match plan().judge(call, || path.to_owned()) {
        Verdict::Go => run(),
        Verdict::Fail(error) => Err(error.into()),
        Verdict::Kill(Part::After) => {
            let _done = run();
            die()
        }
        Verdict::Kill(_) => die(),
    }
}

/// The name that an open file has now: it may have been renamed since it was opened.
pub(crate) fn path_of(file: &File) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// As [`around`], for a call on an open file.
pub(crate) fn around_file<T>(call: Call, file: &File, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match plan().judge(call, || path_of(file)) {
        Verdict::Go => run(),
        Verdict::Fail(error) => Err(error.into()),
        Verdict::Kill(Part::After) => {
            let _done = run();
            die()
        }
        Verdict::Kill(_) => die(),
    }
}

fn write_part(file: &File, parts: &[IoSlice<'_>], offset: u64, len: usize) -> rustix::io::Result<usize> {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(len).collect();
    let written = file.write_all_at(&bytes, offset);
    written.map(|()| bytes.len()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// `pwritev`, as the plan has it.
pub(crate) fn pwritev(file: &File, parts: &[IoSlice<'_>], offset: u64) -> rustix::io::Result<usize> {
    let plan = plan();
    let len: usize = parts.iter().map(|part| part.len()).sum();
    match plan.judge(Call::Write, || path_of(file)) {
        Verdict::Go => {}
        Verdict::Fail(error) => {
            write_part(file, parts, offset, len / 2)?;
            return Err(error);
        }
        Verdict::Kill(part) => {
            let len = match part {
                Part::Before => 0,
                Part::Half => len / 2,
                Part::After => len,
            };
            let _written = write_part(file, parts, offset, len);
            die()
        }
    }
    if let Some(state) = &plan.short {
        // Three draws in four are no whole write; the state only has to differ from call to call.
        let draw = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let draw = (draw ^ draw >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 16;
        if draw % 4 < 3 {
            plan.note("short\n");
        }
        match draw % 4 {
            0 => return Err(Errno::INTR),
            1 => return write_part(file, parts, offset, 1 + (draw >> 8) as usize % len.max(1)),
            2 => return write_part(file, parts, offset, len.min(1)),
            _ => {}
        }
    }
    rustix::io::pwritev(file, parts, offset)
}
