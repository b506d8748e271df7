//! The command line: what the program can be told, and how it explains itself. Only reads; `main` acts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, SETTINGS, Values};

/// Live reverse auctions: one program that decides bids, keeps them in a durable log, and serves the API, the live feed
/// and the page.
///
/// Started without a command it serves. It needs no other service: the first start makes ./data and ./data-keys and
/// listens on loopback only.
#[derive(Debug, Parser)]
#[command(
    name = "reversetender",
    version,
    max_term_width = 110,
    after_help = "Every option is also an environment variable (RT_…) and a key of the TOML file that --config names; a flag wins\n\
                  over the variable, the variable over the file. A running node is ready when /readyz on the admin listener\n\
                  answers 200, and ends by itself, without losing an answer, on SIGTERM.\n\n\
                  Examples:\n  \
                  reversetender demo                        a practice tender with robot bidders, in the browser\n  \
                  reversetender --data /var/lib/rt --listen 0.0.0.0:8000\n  \
                  reversetender simulate rehearsal.jsonl    run a scenario in virtual time\n  \
                  reversetender audit verify tender.json    check what GET …/audit gave\n  \
                  reversetender config check --config /etc/rt.toml"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub options: Options,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, the feed and the page (the default).
    Serve,
    /// Serve, with a live practice tender and robot bidders in it.
    Demo,
    /// Run a scenario in virtual time: reads JSON Lines, writes JSON Lines. Exit status 2 for a line that cannot be read.
    Simulate {
        /// The scenario.
        file: PathBuf,
    },
    /// Look at the log in the data directory; needs no keys and changes nothing.
    #[command(subcommand)]
    Log(LogCommand),
    /// Copy everything that is durable to an archive: of a stopped node from its data directory, of a running one from its
    /// own archive. Goes on where an earlier one was stopped.
    #[command(
        after_help = "What is stored: every segment of the log, the newest snapshot, and the audit that belongs to it, each piece\n\
                      under a name with its place and its hash; never a key. Secret parts stay sealed. Nothing is ever changed or\n\
                      deleted, so the same command again stores only what is new.\n\n\
                      Exit status 0: everything is there; 1: the store or the disk refused, run it again; 2: what was asked for\n\
                      is wrong; 3: the data directory or an object is damaged, and named.\n\n\
                      Examples:\n  \
                      reversetender backup --data /var/lib/rt --keys /var/lib/rt-keys --to /mnt/backup/rt\n  \
                      AWS_REGION=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \\\n    \
                      reversetender backup --config /etc/rt.toml --to s3://bucket/rt"
    )]
    Backup {
        /// The archive: a folder, or s3://BUCKET/PREFIX.
        #[arg(long, value_name = "LOCATION")]
        to: String,
    },
    /// Make a data directory of an archive, to the newest entry, to a number of entries, or to a time.
    #[command(
        after_help = "Writes to an empty or new directory only (--data), with the keys that belong to it (--keys; they are not in the\n\
                      archive). Checks the cluster, the versions, the hash of every object, and that no entry is missing; then\n\
                      reads back what it wrote.\n\n\
                      A restore that leaves out entries the archive holds is another history: the feed's `epoch` changes, readers\n\
                      begin anew, and it is archived beside the old one. `--to latest` stays the history it was. If the lost node\n\
                      answered anything after the archive was last shipped to, give --new-history as well.\n\n\
                      To leave out one bad command: `reversetender log inspect` shows its entry as `seq`; restore to one before.\n\
                      An entry is a batch: what was taken in the same flush goes with it.\n\n\
                      Exit status 0: done; 1: the store or the disk refused; 2: what was asked for is wrong (location, point,\n\
                      directory not empty, keys); 3: an object is damaged or missing, and named with what was expected.\n\n\
                      Examples:\n  \
                      reversetender restore --from /mnt/backup/rt --data /var/lib/rt-new --keys /var/lib/rt-keys\n  \
                      reversetender restore --from s3://bucket/rt --data ./d --keys ./k --to 1200345\n  \
                      reversetender restore --from s3://bucket/rt --data ./d --keys ./k --to 2026-03-01T09:59:59.999Z"
    )]
    Restore {
        /// The archive: a folder, or s3://BUCKET/PREFIX.
        #[arg(long, value_name = "LOCATION")]
        from: String,
        /// Up to where: `latest`, a number of entries counted over all shards, or a time such as 2026-03-01T10:00:00Z; all
        /// entries before the first one that was stamped later.
        #[arg(long, value_name = "latest|SEQ|TIME", default_value = "latest")]
        to: String,
        /// The history to restore, an `epoch` of the feed, where the archive holds several [default: the one shipped last].
        #[arg(long, value_name = "EPOCH")]
        history: Option<String>,
        /// Begin a new history even if everything in the archive is restored.
        #[arg(long)]
        new_history: bool,
    },
    /// Check an export or a receipt of the audit, without a server; make damaged files of the audit again.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look after the keys in the keys directory.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at the cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look at a snapshot.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Look after the database that the log is projected into.
    #[command(subcommand)]
    Sql(SqlCommand),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Say how the cluster is doing, as the node that runs here (--admin-listen) sees it: the nodes and the links to them,
    /// who leads each shard in which term, and how far the others are behind.
    #[command(
        after_help = "Exit status 0: every shard has a leader; 1: one has none, or the node does not answer."
    )]
    Status,
}

/// What can be done with what the audit gave.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check an answer of GET …/audit or GET …/receipt that was saved to a file: that every command gives its leaf hash,
    /// that the chain has no gap, that every leaf is in a signed root and every root has grown out of the one before, and
    /// that the engine, given the commands, decides the same. Names the first thing that does not hold.
    #[command(
        after_help = "Exit status 0: everything holds; 1: something does not, named by its place in the file, with what was\n\
                      expected and what is there; 2: the file cannot be read, or is no export or receipt.\n\n\
                      What a file says of itself proves that it was not changed by somebody without the key. Whoever has the\n\
                      key can make another one; that shows when a root that was kept elsewhere is compared:\n  \
                      feedcat … | grep '\"p\":\"checkpoint\"' >> kept.jsonl      while the tender runs\n  \
                      reversetender audit verify tender.json --key KEY --checkpoints kept.jsonl\n\
                      A root between two of the export: save GET …/audit?sizes=SIZE instead."
    )]
    Verify {
        /// The saved answer.
        file: PathBuf,
        /// The public key that must have signed, or have handed over to the one that did: 64 hexadecimal digits, or `x` of
        /// the key `audit-…` in /.well-known/jwks.json. Take it from elsewhere than the file.
        // A key in base64url may begin with a hyphen.
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        key: Option<String>,
        /// Roots that were kept elsewhere, as the feed pushed them (`checkpoint`), one a line. Can be given more than
        /// once.
        #[arg(long, value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
    },
    /// Make the directory `audit` of a stopped node's data again from its log, when files in it are damaged or gone.
    #[command(
        after_help = "The log must still begin with its first entry: where snapshots have let segments go, bring the directory\n\
                      back from the archive (restore to another directory) or from a backup.\n\n\
                      Every signed root that can still be read is held against the log: if one does not fit, the log was changed\n\
                      or cut after it was signed, and nothing is done. What was there is kept beside the new directory. Roots\n\
                      whose record is damaged are lost as proofs of their time; the tree they were of is the same.\n\n\
                      Two snapshots are written at the end; run it again before a start if it was interrupted there. An archive\n\
                      holds the old files: ship to a new location afterwards.\n\n\
                      Exit status 0: done; 1: it can't be done, and why; 2: the configuration is wrong; 3: the log contradicts a\n\
                      signed root."
    )]
    Rebuild,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new data key and print its number. A running node notices within a second, and seals what it begins from
    /// then on under it; what is there stays readable with the keys before, which are needed as long as it is kept.
    ///
    /// With --audit: make a new key that the audit's roots are signed with, and print its public part. The old key signs
    /// the new one and goes; a running node goes on with the new one within a second. What the old one signed still
    /// counts: exports hold the signatures that lead from one key to the next, and `audit verify --key` takes any of them.
    Rotate {
        /// The key that roots are signed with, not the data key.
        #[arg(long)]
        audit: bool,
    },
    /// Take a data key out of use, when nothing that the node needs is sealed under it any more. Nothing is destroyed: its
    /// file is renamed.
    #[command(
        after_help = "Refused for the newest key, and while a segment or a snapshot is sealed under it; these go by themselves\n\
                      when newer ones are there. Journals of the audit are never cut: for a key that seals records there, say\n\
                      --lose-proofs when nobody may ask for the proofs of these records again. Backups and archives that were\n\
                      sealed under it need it as well: whoever may restore one keeps a copy.\n\n\
                      Exit status 0: done; 1: something needs it, and is named; 2: what was asked for is wrong.\n\n\
                      Example:\n  \
                      reversetender keys revoke 0000000000000002 --data /var/lib/rt --keys /var/lib/rt-keys"
    )]
    Revoke {
        /// Its number, as `keys rotate` printed it.
        key: String,
        /// Give up the proofs of the records that are sealed under it.
        #[arg(long)]
        lose_proofs: bool,
    },
    /// Erase an organisation's personal data for ever, by having the running node forget it and destroy the key that it
    /// is sealed under in log, snapshots, audit, archive and backups.
    #[command(
        after_help = "The node first logs that the organisation is erased: its persons go from memory and from the database, and\n\
                      their sessions end. Then it takes two snapshots, and destroys the key. What stays: the organisation's name\n\
                      and id, what it did in public, and what the audit proves of the rest by hashes that tell nothing.\n\n\
                      Refused while a tender in which it is a bidder, or which it runs, has not ended; and for an organisation whose\n\
                      ended tenders keep hidden offers of others under its key. Run it on the node's machine, with the node's --data\n\
                      and --keys; copies of the key in backups of the keys directory are yours to destroy. A restore to a time before\n\
                      it decides hidden offers of this organisation anew without them.\n\n\
                      Exit status 0: done; 1: it could not be done, and what to do; 2: what was asked for is wrong, or was not\n\
                      confirmed.\n\n\
                      Example:\n  \
                      reversetender keys destroy 01928c6e-… --reason 'request 2026-117' --yes-i-know \\\n    \
                      --data /var/lib/rt --keys /var/lib/rt-keys"
    )]
    Destroy {
        /// The organisation's id.
        organisation: String,
        /// Why; goes into the log and stays there, so no person's name.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Nobody can bring the data back.
        #[arg(long)]
        yes_i_know: bool,
    },
    /// Make the certificate authority of a new cluster in a directory of the operator's own, and print the cluster's id.
    /// Done once for a cluster. No node needs the directory: keep it elsewhere, whoever has it can add a node.
    Ca {
        /// A new or empty directory.
        dir: PathBuf,
    },
    /// Make the certificate by which the other nodes of a cluster know this one, in KEYS/peer. Again for a new one in
    /// place of one that runs out or was lost: a running node uses it from its next connection on.
    #[command(after_help = "Examples:\n  \
                      reversetender keys ca ./authority\n  \
                      reversetender keys node frankfurt-1 --ca ./authority --keys ./frankfurt-1-keys")]
    Node {
        /// The node's name, as in --node and in the --peers of the others: small letters, digits and hyphens.
        name: String,
        /// The directory that `keys ca` made.
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
    },
}

/// What can be done with a snapshot.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Load a snapshot as a start would, at low priority, and compare every shard's state with what is stored of it; a
    /// line of JSON for each shard. Exit status 0: it can be used; 2: it can't, and why; 3: it cannot be read.
    Verify {
        /// The file.
        file: PathBuf,
    },
}

/// What can be done with the database.
#[derive(Debug, Subcommand)]
pub enum SqlCommand {
    /// Empty the database and fill it again from the log of a stopped node. Goes on where it was stopped when the node is
    /// started.
    Rebuild,
}

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print every record of the data directory as a line of JSON; what is secret stays sealed. Exit status as verify.
    Inspect,
    /// Check every record, hash all entries again that can be read, and compare what segments state of the Merkle trees and
    /// the signed roots of the audit; what `--seal all` sealed only with the keys (`--keys`). Exit status 0: all is sound; 1: the last flush is torn, the next start cuts it; 2: something
    /// durable is damaged, named by file and offset; 3: the directory cannot be read.
    Verify,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what would be used, or what is wrong. Exit status 2 when something is.
    Check,
}

/// The settings as flags and variables. Values are checked together with those of the file.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Options {
    /// A TOML file with settings.
    #[arg(long, env = "RT_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where log and snapshots are kept; made at the first start [default: ./data; for demo ./data-demo].
    #[arg(long, env = "RT_DATA", value_name = "DIR", global = true)]
    pub data: Option<String>,
    /// Where the keys are kept that seal the secret parts of the log; keep a copy apart from the data [default: the
    /// data directory's name with -keys behind it].
    #[arg(long, env = "RT_KEYS", value_name = "DIR", global = true)]
    pub keys: Option<String>,
    /// What is sealed of what is written: `secrets` are hidden prices, limits and personal data; `all` is every record of
    /// the log and of the audit, and every snapshot; never the database, which is there to be read [default: secrets].
    #[arg(long, env = "RT_SEAL", value_name = "secrets|all", global = true)]
    pub seal: Option<String>,
    /// Where the API, the feed and the page are served [default: 127.0.0.1:8000].
    #[arg(long, env = "RT_LISTEN", value_name = "ADDRESS:PORT", global = true)]
    pub listen: Option<String>,
    /// Where health and metrics are served; loopback only [default: 127.0.0.1:9600].
    #[arg(long, env = "RT_ADMIN_LISTEN", value_name = "ADDRESS:PORT", global = true)]
    pub admin_listen: Option<String>,
    /// How clients reach the service; pages of this origin may use the feed, and tokens name it as their issuer.
    #[arg(long, env = "RT_PUBLIC_URL", value_name = "URL", global = true)]
    pub public_url: Option<String>,
    /// Addresses of reverse proxies whose X-Forwarded-For is believed, separated by commas [default: none].
    #[arg(long, env = "RT_TRUSTED_PROXIES", value_name = "IP,…", global = true)]
    pub trusted_proxies: Option<String>,
    /// `off` lifts the counts of connections and subscriptions, never sizes and time-outs; loopback only [default:
    /// default].
    #[arg(long, env = "RT_LIMITS", value_name = "default|off", global = true)]
    pub limits: Option<String>,
    /// The name of this node [default: node-1].
    #[arg(long, env = "RT_NODE", value_name = "NAME", global = true)]
    pub node: Option<String>,
    /// The name of its site [default: local].
    #[arg(long, env = "RT_SITE", value_name = "NAME", global = true)]
    pub site: Option<String>,
    /// All nodes of the cluster, this one included, as NAME=HOST:PORT separated by commas, the same on each: an odd number,
    /// so that any minority may be lost. Their certificates are made by `keys ca` and `keys node` [default: none].
    #[arg(long, env = "RT_PEERS", value_name = "NAME=HOST:PORT,…", global = true)]
    pub peers: Option<String>,
    /// Where this node listens for the others [default: none].
    #[arg(long, env = "RT_PEER_LISTEN", value_name = "ADDRESS:PORT", global = true)]
    pub peer_listen: Option<String>,
    /// `new` at the first start of every node of a new cluster, and never again: an empty data directory then votes, as if
    /// nobody had ever answered anything [default: existing].
    #[arg(long, env = "RT_CLUSTER_STATE", value_name = "new|existing", global = true)]
    pub cluster_state: Option<String>,
    /// Over how many shards tenders are spread, 1 to 255; counts at the first start only [default: 8].
    #[arg(long, env = "RT_SHARDS", value_name = "N", global = true)]
    pub shards: Option<String>,
    /// Bytes of a log segment [default: 67108864].
    #[arg(long, env = "RT_SEGMENT_BYTES", value_name = "N", global = true)]
    pub segment_bytes: Option<String>,
    /// Bytes of log after which a snapshot is taken and old segments are reused, or a quarter of what the last snapshot
    /// has,
    /// if that is more [default: 67108864].
    #[arg(long, env = "RT_SNAPSHOT_BYTES", value_name = "N", global = true)]
    pub snapshot_bytes: Option<String>,
    /// Where the log is archived all the time, to be restored elsewhere: a folder on another disk, or s3://BUCKET/PREFIX
    /// with AWS_… variables. Segments are kept until they are there [default: none].
    #[arg(long, env = "RT_ARCHIVE", value_name = "LOCATION", global = true)]
    pub archive: Option<String>,
    /// Seconds from one reading of log and snapshots to the next, by which damage is found while the node runs; 0 for
    /// never [default: 604800, a week].
    #[arg(long, env = "RT_SCRUB_PERIOD_S", value_name = "N", global = true)]
    pub scrub_period_s: Option<String>,
    /// Bytes that are read in a second for that at most [default: 8388608].
    #[arg(long, env = "RT_SCRUB_BYTES_PER_S", value_name = "N", global = true)]
    pub scrub_bytes_per_s: Option<String>,
    /// Where the log is projected into SQL for searches and reports: sqlite:FILE, mysql://USER:PASSWORD@HOST/DATABASE (by TLS,
    /// or with ?socket=PATH), or none; bidding never waits for it [default: sqlite:DATA/projection.sqlite].
    #[arg(long, env = "RT_DATABASE", value_name = "URL", hide_env_values = true, global = true)]
    pub database: Option<String>,
    /// Which lines go to standard error: error, warn, info, debug, trace, or a list such as info,api=debug [default:
    /// info]. Text on a terminal, JSON lines otherwise.
    #[arg(long, env = "RT_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
}

impl Options {
    /// The configuration that these options, the file they name and the defaults make.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, its value and what would be valid.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut values = Values::default();
        for (setting, value) in SETTINGS.iter().zip(self.by_setting()) {
            if let Some(value) = value {
                values.offer(setting.key, value.clone(), format!("{} ({})", setting.flag(), setting.variable()));
            }
        }
        if let Some(path) = &self.config {
            values.offer_file(path)?;
        }
        Config::resolve(&values)
    }

    /// The values in the order of [`SETTINGS`].
    fn by_setting(&self) -> [Option<&String>; SETTINGS.len()] {
        [
            &self.data,
            &self.keys,
            &self.seal,
            &self.listen,
            &self.admin_listen,
            &self.public_url,
            &self.trusted_proxies,
            &self.limits,
            &self.node,
            &self.site,
            &self.peers,
            &self.peer_listen,
            &self.cluster_state,
            &self.shards,
            &self.segment_bytes,
            &self.snapshot_bytes,
            &self.archive,
            &self.scrub_period_s,
            &self.scrub_bytes_per_s,
            &self.database,
            &self.log,
        ]
        .map(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_and_a_variable_in_its_order() {
        let command = Cli::command();
        let arguments: Vec<(String, String)> = command
            .get_arguments()
            .filter(|argument| argument.get_id() != "config")
            .filter_map(|argument| {
                Some((format!("--{}", argument.get_long()?), argument.get_env()?.to_string_lossy().into_owned()))
            })
            .collect();
        let settings: Vec<(String, String)> =
            SETTINGS.iter().map(|setting| (setting.flag(), setting.variable())).collect();
        assert_eq!(arguments, settings);
    }

    #[test]
    fn flags_go_before_and_behind_the_command() {
        for line in
            [&["reversetender", "--shards", "3", "serve"][..], &["reversetender", "serve", "--shards", "3"]]
        {
            let cli = Cli::try_parse_from(line).expect("both are fine");
            assert_eq!(cli.options.resolve().expect("valid").shards, 3);
        }
    }

    #[test]
    fn a_key_may_begin_with_a_hyphen() {
        let line = ["reversetender", "audit", "verify", "file", "--key", "-2x", "--checkpoints", "kept"];
        let Ok(Cli { command: Some(Command::Audit(AuditCommand::Verify { key, checkpoints, .. })), .. }) =
            Cli::try_parse_from(line)
        else {
            panic!("it is understood")
        };
        assert_eq!((key.as_deref(), checkpoints.len()), (Some("-2x"), 1));
    }

    #[test]
    fn a_wrong_flag_is_named() {
        let cli = Cli::try_parse_from(["reversetender", "--listen", "here"]).expect("readable");
        let error = cli.options.resolve().expect_err("no address").to_string();
        let parts = ["--listen", "RT_LISTEN", "\"here\"", "127.0.0.1:8000"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
