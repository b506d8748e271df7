//! The `reversetender` program: reads the command line and the configuration, and does what they say.
//! Exit status 0: done; 1: it could not be done; 2: what was asked for is wrong.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use api::archive::{self, Location};
use api::audit::command::{self as audit, Outcome};
use api::audit::rebuild;
use api::cli::{
    AuditCommand, Cli, ClusterCommand, Command, ConfigCommand, KeysCommand, LogCommand, SnapshotCommand,
    SqlCommand,
};
use api::config::{self, Config};
use api::node::{self, VerifyError};
use api::server::Server;
use api::simulate::SimulateError;
use api::{cluster, demo, keys, simulate, sql};
use clap::Parser;
use persistence::peers::{Authority, PEER_FOLDER, PeersError};
use persistence::{Disk, HistoryId, Keys, RealDisk, inspect, system_random};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What was asked for is wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Serve);
    if matches!(command, Command::Demo) && cli.options.config.is_none() {
        cli.options.data.get_or_insert_with(|| demo::DATA.to_owned());
    }
    let config = match cli.options.resolve() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(WRONG);
        }
    };
    log_to_stderr(&config);
    let done = match command {
        Command::Serve => serve(&config, false),
        Command::Demo => serve(&config, true),
        Command::Simulate { file } => Ok(rehearse(&file)),
        Command::Log(command) => look(&config, &command),
        Command::Audit(AuditCommand::Verify { file, key, checkpoints }) => {
            verify(&file, key.as_deref(), &checkpoints)
        }
        Command::Audit(AuditCommand::Rebuild) => rebuild::rebuild(&config),
        Command::Backup { to } => match Location::parse(&to) {
            Some(to) => archive::backup(&config, &to),
            None => Ok(wrong("--to", &to, Location::VALID)),
        },
        Command::Restore { from, to, history, new_history } => {
            let history = history.map(|text| text.parse::<HistoryId>().map_err(|_| text));
            match (Location::parse(&from), archive::target(&to), history.transpose()) {
                (None, ..) => Ok(wrong("--from", &from, Location::VALID)),
                (_, None, _) => Ok(wrong("--to", &to, "latest, a number of entries, or a time with its zone")),
                (.., Err(text)) => Ok(wrong("--history", &text, "an epoch, as the feed and `restore` tell it")),
                (Some(from), Some(to), Ok(history)) => archive::restore(&config, &from, to, history, new_history),
            }
        }
        Command::Keys(KeysCommand::Rotate { audit }) => keys::rotate(&config, audit),
        Command::Keys(KeysCommand::Revoke { key, lose_proofs }) => keys::revoke(&config, &key, lose_proofs),
        Command::Keys(KeysCommand::Destroy { organisation, reason, yes_i_know }) => {
            keys::destroy(&config, &organisation, &reason, yes_i_know)
        }
        Command::Keys(KeysCommand::Ca { dir }) => certify(Authority::create(&dir).map(|authority| {
            format!("cluster {}: authority in {}", HistoryId(authority.cluster()), dir.display())
        })),
        Command::Keys(KeysCommand::Node { name, ca }) => {
            let folder = config.keys.join(PEER_FOLDER);
            let issued = Authority::open(&ca).and_then(|authority| authority.issue(&name, &folder));
            certify(issued.map(|()| format!("node {name}: certificate in {}", folder.display())))
        }
        Command::Cluster(ClusterCommand::Status) => cluster::status(config.admin_listen),
        Command::Snapshot(SnapshotCommand::Verify { file }) => verify_snapshot(&config, &file),
        Command::Sql(SqlCommand::Rebuild) => sql::rebuild(&config),
        Command::Config(ConfigCommand::Check) => {
            print!("{}", config.describe());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        // Once more in plain words, for whoever started it: the log may go elsewhere.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Says that an option of a command is wrong.
fn wrong(option: &str, value: &str, valid: &str) -> ExitCode {
    eprintln!("error: {option}: {value:?} is not valid; valid: {valid}");
    ExitCode::from(WRONG)
}

/// Text for people, JSON lines for machines.
fn log_to_stderr(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.init();
    } else {
        lines.json().flatten_event(true).with_ansi(false).init();
    }
}

/// Serves until somebody asks it to stop; with `play`, robots play on it meanwhile.
fn serve(config: &Config, play: bool) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        // Before anything is opened: from here on a signal drains instead of cutting off.
        let asked = Asked::listen()?;
        allow_many_connections();
        let server = Server::start(config).await?;
        let (stop, stopped) = watch::channel(false);
        let robots = play.then(|| tokio::spawn(demo::run(server.address(), config.data.clone(), stopped)));
        let played = match robots {
            None => {
                asked.wait().await;
                Ok(())
            }
            Some(mut robots) => tokio::select! {
                () = asked.wait() => {
                    stop.send_replace(true);
                    robots.await.unwrap_or_else(|error| Err(error.into()))
                }
                played = &mut robots => played.unwrap_or_else(|error| Err(error.into())),
            },
        };
        server.stop().await;
        played.map(|()| ExitCode::SUCCESS)
    })
}

/// A connection takes a file descriptor, and many systems give a process few unless it asks for more.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "The limit of open files stays as it is");
    }
}

/// Says what certificates were made.
fn certify(made: Result<String, PeersError>) -> anyhow::Result<ExitCode> {
    match made {
        Ok(text) => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (PeersError::Name { .. } | PeersError::Exists { .. })) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(WRONG))
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs a scenario; what it says goes to standard output.
fn rehearse(file: &Path) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match simulate::run_file(file, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What was decided before the line that cannot be read is said all the same.
            let written = out.flush();
            eprintln!("error: {error}");
            match error {
                SimulateError::Write(_) => ExitCode::FAILURE,
                _ if written.is_err() => ExitCode::FAILURE,
                _ => ExitCode::from(WRONG),
            }
        }
    }
}

/// Looks at a log.
fn look(config: &Config, command: &LogCommand) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let soundness = match command {
        LogCommand::Inspect => inspect::inspect(&RealDisk, &config.data, &mut out)?,
        LogCommand::Verify => inspect::verify_with(&RealDisk, &config.data, keys_of(config).as_ref(), &mut out)?,
    };
    out.flush()?;
    Ok(ExitCode::from(soundness as u8))
}

/// The keys, where they are at hand: a log is looked at without them as well.
fn keys_of(config: &Config) -> Option<Arc<Keys>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let keys = match config::master_key() {
        Some(master) => master.keys(disk, &config.keys, system_random),
        None => Keys::open(disk, &config.keys, system_random, false),
    };
    keys.ok().map(Arc::new)
}

/// Checks an export or a receipt.
fn verify(file: &Path, key: Option<&str>, kept: &[PathBuf]) -> anyhow::Result<ExitCode> {
    match audit::run(file, key, kept) {
        Ok(Outcome::Holds(verified)) => {
            let mut out = std::io::stdout().lock();
            audit::tell(&verified, key.is_some(), &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Outcome::Broken(wrong)) => {
            eprintln!("does not hold: {}: {wrong}", file.display());
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(WRONG))
        }
    }
}

/// Loads a snapshot and says what is in it.
fn verify_snapshot(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    // It takes as long as it takes: whoever serves beside it comes first.
    rustix::process::nice(19)?;
    match node::verify(file, &config.keys, config::master_key().as_ref()) {
        Ok(lines) => {
            let mut out = std::io::stdout().lock();
            for line in lines {
                writeln!(out, "{line}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("{error}");
            Ok(ExitCode::from(match error {
                VerifyError::Damaged(_) => WRONG,
                VerifyError::Unreadable(_) => node::UNREADABLE as u8,
            }))
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("edge").build()
}

/// The signals that ask the program to stop.
struct Asked {
    term: Signal,
    int: Signal,
}

impl Asked {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
