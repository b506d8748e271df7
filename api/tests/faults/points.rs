//! The program is killed at chosen calls to its disk: while it serves, makes segments and snapshots, and again and again
//! while it recovers. `RT_TEST_POINTS` says at how many; `RT_TEST_SEED` repeats the draws, though not the threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::judge::{Looked, judge, verify_log};
use crate::world::{Counts, Draws, Home, Op, Served, World, was_killed};

/// Points in an ordinary run of the tests.
const POINTS: u64 = 220;
/// Deepest chain of crashes in recovery.
const DEPTH_MAX: u64 = 5;
/// Requests of one life; a point that is not reached by then gets twice as many.
const LOAD: usize = 45;
/// Tokens last for fifteen minutes.
const WORLD_LASTS: Duration = Duration::from_secs(8 * 60);
const WORKERS: u64 = 2;
/// Calls that change or sync something.
const CALLS: usize = 8;

/// Where the program is to be killed.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    number: u64,
    part: &'static str,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.call, self.number, self.part)
    }
}

/// How often the program really makes each call, so that points are drawn where it comes by.
#[derive(Debug, Default)]
struct Profile {
    /// In its first start on an empty folder.
    first: Counts,
    /// In its start on the world.
    boot: Counts,
    /// While it served, after that.
    run: Counts,
    /// In starts after a crash, of which some were deep in a chain.
    recoveries: Mutex<Vec<Counts>>,
}

/// A point behind the first `after` calls, within the `within` that follow them.
fn draw(draws: &mut Draws, after: &Counts, within: &Counts) -> Point {
    let calls: Vec<&String> = within.iter().filter(|(_, count)| **count > 0).map(|(call, _)| call).collect();
    let call = *draws.one_of(&calls);
    let parts: &[&'static str] = if call == "write" { &["before", "half", "after"] } else { &["before", "after"] };
    // What threads do side by side is not the same in every run, so the last tenth is left out.
    let count = within[call] - within[call] / 10;
    let number = after.get(call).copied().unwrap_or_default() + 1 + draws.below(count);
    Point { call: call.clone(), number, part: draws.one_of::<&str>(parts) }
}

fn less(all: &Counts, before: &Counts) -> Counts {
    let count = |call: &String| before.get(call).copied().unwrap_or_default();
    all.iter().map(|(call, all)| (call.clone(), all.saturating_sub(count(call)))).collect()
}

/// Everything that is counted.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    reached: u64,
    by_call: BTreeMap<String, u64>,
    by_place: BTreeMap<&'static str, u64>,
    lives: u64,
    chains: u64,
    /// Chains by how many crashes in a row hit their recovery.
    depths: BTreeMap<u64, u64>,
    looked: Looked,
    /// Milliseconds from each last start of a chain until it served.
    recoveries_ms: Vec<u128>,
    /// What ended a chain with something that does not hold.
    violations: Vec<String>,
}

struct Campaign {
    world: Mutex<Arc<World>>,
    profile: Profile,
    tally: Mutex<Tally>,
    points: u64,
    handle: Handle,
    began: Instant,
}

/// One chain: a copy of the world, or an empty folder, and what its clients were told.
struct Chain<'a> {
    campaign: &'a Campaign,
    world: Option<Arc<World>>,
    home: Home,
    draws: Draws,
    ops: Mutex<Vec<Op>>,
    /// The lives so far, to be told with a violation.
    story: Vec<String>,
}

impl Chain<'_> {
    /// Load in three bursts, or a pause where there is nobody to send any, until it has ended.
    fn run(&mut self, served: &mut Served) -> bool {
        let Some(world) = self.world.clone() else { return served.ends_within(Duration::from_secs(1)).is_some() };
        let (dead, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (listen, mut draws) = (served.listen, Draws(self.draws.below(u64::MAX)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    world.load(listen, LOAD, &mut draws, &self.ops, &dead);
                    // Snapshots and segments are made beside the answers.
                    let until = Instant::now() + Duration::from_millis(400);
                    while !dead.load(Ordering::Acquire) && Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                done.store(true, Ordering::Release);
            });
            loop {
                if served.ends_within(Duration::from_millis(2)).is_some() {
                    dead.store(true, Ordering::Release);
                    return true;
                }
                if done.load(Ordering::Acquire) {
                    return served.ended().is_some();
                }
            }
        })
    }

    /// One life that is to end at `point`. Answers whether it ended before it served.
    fn life(&mut self, point: &Point) -> Result<bool, String> {
        let mut environment = vec![("RT_TEST_KILL_AT", point.to_string())];
        if self.draws.below(5) == 0 {
            environment.push(("RT_TEST_SHORT_WRITES", self.draws.below(u64::MAX).to_string()));
        }
        let mut served = self.home.serve(&environment);
        let ready = served.ready();
        let killed = ready.is_err() || self.run(&mut served);
        let status = served.ended();
        if killed && !status.is_some_and(was_killed) {
            return Err(format!("{point}: it ended by itself with {status:?}"));
        }
        let in_recovery = ready.is_err();
        let when = if in_recovery { "recovering" } else { "serving" };
        self.story.push(format!("{point} {}", if killed { when } else { "not reached" }));
        let mut tally = self.campaign.tally.lock().expect("nobody panicked");
        tally.asked += 1;
        tally.lives += 1;
        tally.reached += u64::from(killed);
        if killed {
            *tally.by_call.entry(point.call.clone()).or_default() += 1;
            *tally.by_place.entry(served.place(&point.call, point.number)).or_default() += 1;
        }
        served.kill();
        Ok(in_recovery)
    }

    /// Kills it at drawn points, and then lets it live and judges. None: everything holds.
    fn through(&mut self) -> Result<Looked, String> {
        let profile = &self.campaign.profile;
        let depth = self.draws.below(DEPTH_MAX + 1);
        let mut crashes = 0;
        if self.world.is_some() {
            let point = draw(&mut self.draws, &profile.boot, &profile.run);
            self.life(&point)?;
        }
        for number in 0..depth {
            let within = match &self.world {
                None if number == 0 => profile.first.clone(),
                _ => self.draws.one_of(&profile.recoveries.lock().expect("nobody panicked")).clone(),
            };
            let point = draw(&mut self.draws, &Counts::new(), &within);
            if self.life(&point)? {
                crashes += 1;
            }
        }
        let began = Instant::now();
        let mut served = self.home.serve(&[]);
        if let Err(status) = served.ready() {
            return Err(format!("it does not start again: {status}"));
        }
        let took_ms = began.elapsed().as_millis();
        let counts = served.counts();
        {
            let mut tally = self.campaign.tally.lock().expect("nobody panicked");
            tally.lives += 1;
            tally.recoveries_ms.push(took_ms);
            *tally.depths.entry(crashes).or_default() += 1;
        }
        let Some(world) = &self.world else {
            served.kill();
            return verify_log(&self.home).map(|()| Looked::default());
        };
        profile.recoveries.lock().expect("nobody panicked").push(counts);
        let ops = std::mem::take(&mut *self.ops.lock().expect("nobody panicked"));
        if let Some(op) = ops.iter().find(|op| op.refused.is_some()) {
            return Err(format!("nothing was to be refused: {op:?}"));
        }
        judge(world, &self.home, &mut served, ops, &self.campaign.handle)
    }
}

impl Campaign {
    async fn new(points: u64) -> Self {
        let world = Arc::new(World::new().await);
        let mut profile = Profile::default();
        let empty = tempfile::tempdir().expect("a folder");
        let mut served = Home(empty.path().to_owned()).serve(&[]);
        served.ready().expect("a sound machine");
        profile.first = served.counts();
        served.kill();
        let copy = tempfile::tempdir().expect("a folder");
        let home = world.home().copied(copy.path());
        let mut served = home.serve(&[]);
        served.ready().expect("a sound machine");
        profile.boot = served.counts();
        let (ops, dead) = (Mutex::default(), AtomicBool::new(false));
        world.load(served.listen, LOAD, &mut Draws(2), &ops, &dead);
        tokio::time::sleep(Duration::from_millis(400)).await;
        profile.run = less(&served.counts(), &profile.boot);
        // Files go when a third snapshot is there, which a slow machine may write only after more load.
        profile.run.entry("remove".into()).and_modify(|count| *count = 1.max(*count)).or_insert(1);
        served.kill();
        let mut served = home.serve(&[]);
        served.ready().expect("a sound machine");
        profile.recoveries.get_mut().expect("nobody panicked").push(served.counts());
        println!("first start {:?}", profile.first);
        println!("start {:?}, then {LOAD} requests {:?}", profile.boot, profile.run);
        println!("start after a crash {:?}", served.counts());
        let (world, tally, handle) = (Mutex::new(world), Mutex::default(), Handle::current());
        Self { world, profile, tally, points, handle, began: Instant::now() }
    }

    fn world(&self) -> Arc<World> {
        let mut world = self.world.lock().expect("nobody panicked");
        if world.made.elapsed() > WORLD_LASTS {
            *world = Arc::new(self.handle.block_on(World::new()));
        }
        Arc::clone(&world)
    }

    /// Chains until enough points were asked for.
    fn work(&self, seed: u64) {
        let mut draws = Draws(seed);
        loop {
            {
                let mut tally = self.tally.lock().expect("nobody panicked");
                if tally.asked >= self.points || tally.violations.len() >= 3 {
                    return;
                }
                tally.chains += 1;
                if tally.chains.is_multiple_of(20) {
                    let Tally { asked, reached, lives, violations, .. } = &*tally;
                    let (seconds, points) = (self.began.elapsed().as_secs(), self.points);
                    println!(
                        "{seconds} s: {asked} of {points} points asked, {reached} reached, {lives} lives, {} violations",
                        violations.len()
                    );
                }
            }
            let dir = tempfile::tempdir().expect("a folder");
            let world = (draws.below(10) > 0).then(|| self.world());
            let home = match &world {
                Some(world) => world.home().copied(dir.path()),
                None => Home(dir.path().to_owned()),
            };
            let ops = Mutex::new(world.as_ref().map(|world| world.ops.clone()).unwrap_or_default());
            let draws = Draws(draws.below(u64::MAX));
            let mut chain = Chain { campaign: self, world, home, draws, ops, story: Vec::new() };
            let found = chain.through();
            let mut tally = self.tally.lock().expect("nobody panicked");
            match found {
                Ok(looked) => tally.looked.add(looked),
                Err(why) => {
                    let said = chain.home.said();
                    let kept = dir.keep();
                    let story = chain.story.join(", ");
                    tally.violations.push(format!("{why}\n  after {story}\n  {}\n{said}", kept.display()));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_call_and_again_while_it_recovers_it_loses_and_doubles_nothing() {
    let told = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let points = told("RT_TEST_POINTS").unwrap_or(POINTS);
    let seed = told("RT_TEST_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u128() as u64);
    println!("RT_TEST_SEED={seed}");
    let campaign = Arc::new(Campaign::new(points).await);
    let work = |number| {
        let campaign = Arc::clone(&campaign);
        tokio::task::spawn_blocking(move || {
            // Not on a thread of the runtime: the judge waits for sockets there.
            std::thread::spawn(move || campaign.work(seed ^ number << 32)).join().expect("a worker ends");
        })
    };
    for worker in (0..WORKERS).map(work).collect::<Vec<_>>() {
        worker.await.expect("a worker ends");
    }
    let mut tally = campaign.tally.lock().expect("nobody panicked");
    tally.recoveries_ms.sort_unstable();
    let Tally { asked, reached, by_call, by_place, lives, chains, depths, looked, recoveries_ms, violations } =
        &*tally;
    println!("{asked} points asked, {reached} reached, in {chains} chains and {lives} lives");
    println!("points reached by call: {by_call:?}");
    println!("points reached by place: {by_place:?}");
    println!("chains by crashes in recovery: {depths:?}");
    let percentile = |percent: usize| recoveries_ms.get(recoveries_ms.len() * percent / 100);
    println!(
        "ms until it served again: p50 {:?}, p99 {:?}, max {:?}",
        percentile(50),
        percentile(99),
        recoveries_ms.last()
    );
    println!(
        "{} answered, {} taken without an answer, {} not taken; {} readers resumed, {} began again",
        looked.answered, looked.taken_unanswered, looked.not_taken, looked.resumed, looked.begun_again
    );
    println!("violations {}, {} s", violations.len(), campaign.began.elapsed().as_secs());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(reached * 10 >= asked * 9, "too few points were reached");
    // A few points need not meet everything.
    if *asked >= POINTS {
        assert_eq!(by_call.len(), CALLS, "some calls were never reached: {by_call:?}");
        assert!(depths.range(2..).map(|(_, chains)| chains).sum::<u64>() > 0, "no crash hit a second recovery");
        assert!(looked.answered > 0 && looked.taken_unanswered > 0 && looked.not_taken > 0, "{looked:?}");
        assert!(looked.resumed > 0 && looked.begun_again > 0, "{looked:?}");
    }
}
