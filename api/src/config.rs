//! The configuration: what may be set, where a value comes from, and what is valid.
//! A flag wins over its `RT_` variable, that over the file, that over the default. The one secret it hands on, the master key, it never looks at.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use persistence::peers::{Member, is_node_name};
use persistence::sql::Place;
use persistence::{MasterKey, Seal};

use crate::archive::Location;
use crate::node::{ClusterOptions, ScrubOptions};

/// A setting: its TOML key; flag and variable have the same name in their own writing.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the file. The flag is `--key` with hyphens, the variable `RT_KEY` in capitals.
    pub key: &'static str,
    /// What it is when it is not set, in words.
    pub default: &'static str,
    /// What is valid, in words.
    pub valid: &'static str,
}

/// A week: what rots is found while the other copies are still sound, and a disk is read some fifty times a year.
const SCRUB_PERIOD_S: u64 = 7 * 24 * 3_600;
/// 8 MiB: a twentieth of what a slow disk reads; 4.8 TB in a week.
const SCRUB_BYTES_PER_S: u64 = 8 << 20;

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    Setting { key: "data", default: "./data", valid: "a directory; it is made when it is not there" },
    Setting {
        key: "keys",
        default: "the data directory's name with -keys behind it",
        valid: "a directory outside the data directory",
    },
    Setting { key: "seal", default: "secrets", valid: "secrets, or all" },
    Setting { key: "listen", default: "127.0.0.1:8000", valid: "an address and a port, such as 127.0.0.1:8000" },
    Setting {
        key: "admin_listen",
        default: "127.0.0.1:9600",
        valid: "a loopback address and a port, such as 127.0.0.1:9600",
    },
    Setting { key: "public_url", default: "none", valid: "http:// or https:// and a host, without a path" },
    Setting { key: "trusted_proxies", default: "none", valid: "IP addresses, separated by commas" },
    Setting { key: "limits", default: "default", valid: "default, or off on a loopback address" },
    Setting { key: "node", default: "node-1", valid: "1 to 64 letters, digits, points and hyphens" },
    Setting { key: "site", default: "local", valid: "1 to 64 letters, digits, points and hyphens" },
    Setting {
        key: "peers",
        default: "none",
        valid: "NAME=HOST:PORT of each of the 2 to 9 nodes of the cluster, this one included, separated by commas; names of small letters, digits and hyphens",
    },
    Setting {
        key: "peer_listen",
        default: "none",
        valid: "an address and a port, such as 0.0.0.0:9700, together with peers",
    },
    Setting {
        key: "cluster_state",
        default: "existing",
        valid: "new at the first start of every node of a new cluster, else existing",
    },
    Setting { key: "shards", default: "8", valid: "1 to 255; counts at the first start only" },
    Setting { key: "segment_bytes", default: "67108864", valid: "a multiple of 4096 from 65536 to 1073741824" },
    Setting { key: "snapshot_bytes", default: "67108864", valid: "from 65536" },
    Setting { key: "archive", default: "none", valid: Location::VALID },
    Setting { key: "scrub_period_s", default: "604800", valid: "seconds, 1 to 31536000, or 0 for never" },
    Setting { key: "scrub_bytes_per_s", default: "8388608", valid: "from 65536" },
    Setting {
        key: "database",
        default: "sqlite: and a file in the data directory",
        valid: "sqlite:FILE, mysql://USER:PASSWORD@HOST:PORT/DATABASE, or none",
    },
    Setting {
        key: "log",
        default: "info",
        valid: "error, warn, info, debug or trace, or a list such as info,api=debug",
    },
];

impl Setting {
    /// The flag: `--admin-listen`.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// The environment variable: `RT_ADMIN_LISTEN`.
    pub fn variable(&self) -> String {
        format!("RT_{}", self.key.to_ascii_uppercase())
    }
}

/// The variable that may hold the master key, as 64 hexadecimal digits: no setting, so that no file and no flag holds it
/// and nothing describes it.
pub const MASTER_KEY: &str = "RT_MASTER_KEY";

/// The master key, when the environment has it; then the keys directory holds none.
pub fn master_key() -> Option<MasterKey> {
    std::env::var(MASTER_KEY).ok().map(MasterKey::new)
}

/// Whether counts are limited; sizes and times always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// They are.
    Default,
    /// They are not: for tests and measurements on a loopback address.
    Off,
}

/// The configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The directory of the keys.
    pub keys: PathBuf,
    /// What is sealed of what is written.
    pub seal: Seal,
    /// Where the API and the page are served.
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// What clients call the service; also the issuer of tokens.
    pub public_url: Option<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether counts are limited.
    pub limits: Limits,
    /// The name of this node.
    pub node: String,
    /// The name of its site.
    pub site: String,
    /// The cluster that the node is of, if it is of one.
    pub cluster: Option<ClusterOptions>,
    /// How many shards hold tenders; counts at the first start only.
    pub shards: u16,
    /// Bytes of a log segment.
    pub segment_bytes: u32,
    /// A snapshot is taken after so many bytes of log.
    pub snapshot_bytes: u64,
    /// Where the log is archived, if it is.
    pub archive: Option<Location>,
    /// Seconds from one reading of log and snapshots to the next; 0 for never.
    pub scrub_period_s: u64,
    /// Bytes that are read in a second for that at most.
    pub scrub_bytes_per_s: u64,
    /// Where the log is projected into SQL, if it is.
    pub database: Option<Place>,
    /// Which lines are logged.
    pub log: String,
}

/// A setting that is wrong: names it, the value, and what would be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Values by key, with where each came from.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<&'static str, (String, String)>);

impl Values {
    /// Sets `key`, unless it was set before; `origin` names where the value comes from.
    ///
    /// # Panics
    /// For a key that is no setting.
    pub fn offer(&mut self, key: &str, value: String, origin: String) {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).expect("only settings are offered");
        self.0.entry(setting.key).or_insert((value, origin));
    }

    /// Offers all values of a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, is no TOML, or has a key that is no setting.
    pub fn offer_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("--config {name}: cannot be read: {error}")))?;
        let table: toml::Table =
            text.parse().map_err(|error| ConfigError(format!("--config {name}: is no TOML: {error}")))?;
        for (key, value) in table {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
                let known = known.join(", ");
                return Err(ConfigError(format!("{name}: unknown key {key:?}; valid keys: {known}")));
            };
            let text = match &value {
                toml::Value::String(text) => Some(text.clone()),
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::Array(items) => {
                    items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>().map(|items| items.join(","))
                }
                _ => None,
            };
            let origin = format!("{name}: {key}");
            let text = text.ok_or_else(|| wrong(&origin, &value.to_string(), setting.valid))?;
            self.offer(setting.key, text, origin);
        }
        Ok(())
    }

    /// The value of `key` as `read` reads it.
    fn read<T>(&self, key: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some((value, origin)) = self.0.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let valid = SETTINGS.iter().find(|setting| setting.key == key).map_or("", |setting| setting.valid);
                Err(wrong(origin, value, valid))
            }
        }
    }

    fn origin(&self, key: &str) -> String {
        self.0.get(key).map_or_else(|| format!("{key} (default)"), |(_, origin)| origin.clone())
    }
}

fn wrong(origin: &str, value: &str, valid: &str) -> ConfigError {
    ConfigError(format!("{origin}: {value:?} is not valid; valid: {valid}"))
}

impl Config {
    /// The configuration that `values` and the defaults make.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that is wrong, alone or with another.
    pub fn resolve(values: &Values) -> Result<Self, ConfigError> {
        let directory = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let data = values.read("data", directory)?.unwrap_or_else(|| PathBuf::from("./data"));
        let keys = values.read("keys", directory)?.unwrap_or_else(|| beside(&data));
        let seal = values.read("seal", |text| match text {
            "secrets" => Some(Seal::Secrets),
            "all" => Some(Seal::All),
            _ => None,
        })?;
        let address = |text: &str| text.parse::<SocketAddr>().ok();
        let listen = values.read("listen", address)?.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8000)));
        let loopback = |text: &str| address(text).filter(|address| address.ip().is_loopback());
        let admin_listen =
            values.read("admin_listen", loopback)?.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9600)));
        let limits = values.read("limits", |text| match text {
            "default" => Some(Limits::Default),
            "off" => Some(Limits::Off),
            _ => None,
        })?;
        let limits = limits.unwrap_or(Limits::Default);
        if limits == Limits::Off && !listen.ip().is_loopback() {
            let (limits, listens) = (values.origin("limits"), values.origin("listen"));
            return Err(ConfigError(format!(
                "{limits}: \"off\" is not valid together with {listens}: \"{listen}\"; valid: off on a loopback address, or default"
            )));
        }
        let archive = values.read("archive", |text| {
            let inside = |dir: &Path| dir.starts_with(&data);
            Location::parse(text).filter(|place| !matches!(place, Location::Folder(dir) if inside(dir)))
        })?;
        let database = values.read("database", |text| match text {
            "none" => Some(None),
            "sqlite:" => Some(Some(Place::in_folder(&data))),
            text => Place::parse(text).ok().map(Some),
        })?;
        let node = values.read("node", name)?.unwrap_or_else(|| "node-1".to_owned());
        let site = values.read("site", name)?.unwrap_or_else(|| "local".to_owned());
        Ok(Self {
            cluster: cluster(values, &node, &site)?,
            database: database.unwrap_or_else(|| Some(Place::in_folder(&data))),
            data,
            keys,
            archive,
            seal: seal.unwrap_or_default(),
            listen,
            admin_listen,
            public_url: values.read("public_url", origin_of)?,
            trusted_proxies: values.read("trusted_proxies", addresses)?.unwrap_or_default(),
            limits,
            node,
            site,
            shards: values.read("shards", |text| in_range(text, 1, 255))?.unwrap_or(8),
            segment_bytes: values.read("segment_bytes", segment)?.unwrap_or(64 << 20),
            snapshot_bytes: values
                .read("snapshot_bytes", |text| in_range(text, 64 << 10, u64::MAX))?
                .unwrap_or(256 << 20),
            scrub_period_s: values
                .read("scrub_period_s", |text| in_range(text, 0, 31_536_000))?
                .unwrap_or(SCRUB_PERIOD_S),
            scrub_bytes_per_s: values
                .read("scrub_bytes_per_s", |text| in_range(text, 64 << 10, u64::MAX))?
                .unwrap_or(SCRUB_BYTES_PER_S),
            log: values.read("log", filter)?.unwrap_or_else(|| "info".to_owned()),
        })
    }

    /// The number that stands for the node's name in commands.
    pub fn node_number(&self) -> u16 {
        number_of(&self.node)
    }

    /// How log and snapshots are read again, if they are.
    pub fn scrub(&self) -> Option<ScrubOptions> {
        let period = Duration::from_secs(self.scrub_period_s);
        (!period.is_zero()).then_some(ScrubOptions { period, bytes_per_s: self.scrub_bytes_per_s })
    }

    /// Every setting with its value, a line each, as a file could hold them.
    pub fn describe(&self) -> String {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let proxies: Vec<String> = self.trusted_proxies.iter().map(|address| quoted(address)).collect();
        let lines = [
            ("data", quoted(&self.data.display())),
            ("keys", quoted(&self.keys.display())),
            ("seal", quoted(&if self.seal == Seal::All { "all" } else { "secrets" })),
            ("listen", quoted(&self.listen)),
            ("admin_listen", quoted(&self.admin_listen)),
            ("trusted_proxies", format!("[{}]", proxies.join(", "))),
            ("limits", quoted(&if self.limits == Limits::Off { "off" } else { "default" })),
            ("node", quoted(&self.node)),
            ("site", quoted(&self.site)),
            ("shards", self.shards.to_string()),
            ("segment_bytes", self.segment_bytes.to_string()),
            ("snapshot_bytes", self.snapshot_bytes.to_string()),
            ("scrub_period_s", self.scrub_period_s.to_string()),
            ("scrub_bytes_per_s", self.scrub_bytes_per_s.to_string()),
            ("database", quoted(&self.database.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string))),
            ("log", quoted(&self.log)),
        ];
        let url = self.public_url.iter().map(|url| format!("public_url = {}\n", quoted(url)));
        let cluster = self.cluster.iter().flat_map(|cluster| {
            let peers = cluster.members.iter().map(|member| format!("{}={}", member.name, member.address));
            let state = if cluster.is_new { "new" } else { "existing" };
            [
                format!("peers = {}\n", quoted(&peers.collect::<Vec<_>>().join(","))),
                format!("peer_listen = {}\n", quoted(&cluster.listen)),
                format!("cluster_state = {}\n", quoted(&state)),
            ]
        });
        let archive = self.archive.iter().map(|place| format!("archive = {}\n", quoted(place)));
        lines
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .chain(url)
            .chain(archive)
            .chain(cluster)
            .collect()
    }
}

fn number_of(node: &str) -> u16 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(node);
    u16::from_be_bytes([hash[0], hash[1]])
}

/// The cluster that the values describe, if they describe one.
fn cluster(values: &Values, node: &str, site: &str) -> Result<Option<ClusterOptions>, ConfigError> {
    let listen = values.read("peer_listen", |text| text.parse::<SocketAddr>().ok())?;
    let is_new = values.read("cluster_state", |text| match text {
        "new" => Some(true),
        "existing" => Some(false),
        _ => None,
    })?;
    let Some(members) = values.read("peers", members)? else {
        return match listen {
            None => Ok(None),
            Some(_) => {
                let listens = values.origin("peer_listen");
                Err(ConfigError(format!("{listens}: there are no other nodes; valid: together with peers")))
            }
        };
    };
    let peers = values.origin("peers");
    let Some(listen) = listen else {
        return Err(ConfigError(format!(
            "{peers}: peer_listen is missing; valid: an address and a port, such as 0.0.0.0:9700"
        )));
    };
    if !members.iter().any(|member| member.name == node) {
        return Err(ConfigError(format!(
            "{peers}: {node:?}, this node's name, is not among them; valid: every node, this one (--node) included"
        )));
    }
    for (place, member) in members.iter().enumerate() {
        let same = |other: &&Member| other.name == member.name || other.node == member.node;
        if let Some(other) = members[..place].iter().find(same) {
            return Err(ConfigError(format!(
                "{peers}: {:?} and {:?} can't be told apart; valid: names that are not equal and have different \
                 numbers (the first two bytes of their SHA-256): rename one before the first start",
                other.name, member.name
            )));
        }
    }
    let (name, site) = (node.to_owned(), site.to_owned());
    Ok(Some(ClusterOptions { name, site, listen, members, is_new: is_new.unwrap_or(false) }))
}

fn members(text: &str) -> Option<Vec<Member>> {
    let member = |part: &str| {
        let (name, address) = part.trim().split_once('=')?;
        let (host, port) = address.rsplit_once(':')?;
        let fits = is_node_name(name) && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
        fits.then(|| Member { name: name.to_owned(), node: number_of(name), address: address.to_owned() })
    };
    let mut members: Vec<Member> = text.split(',').map(member).collect::<Option<_>>()?;
    // The same on every node, in whatever order it is written.
    members.sort_by(|a, b| a.name.cmp(&b.name));
    (2..=9).contains(&members.len()).then_some(members)
}

/// `./data` → `./data-keys`: not inside, so that a copy of the data does not hold the keys to it.
fn beside(data: &Path) -> PathBuf {
    let name = data.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    data.with_file_name(format!("{name}-keys"))
}

fn in_range<T: std::str::FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    text.parse().ok().filter(|number| *number >= least && *number <= most)
}

fn segment(text: &str) -> Option<u32> {
    in_range(text, persistence::SEGMENT_BYTES_MIN, persistence::SEGMENT_BYTES_MAX)
        .filter(|bytes| bytes % 4096 == 0)
}

fn name(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    ((1..=64).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
}

fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok()).collect()
}

fn origin_of(text: &str) -> Option<String> {
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    plain.then(|| url.to_owned())
}

fn filter(text: &str) -> Option<String> {
    text.parse::<tracing_subscriber::EnvFilter>().ok().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(set: &[(&str, &str)]) -> Result<Config, String> {
        let mut values = Values::default();
        for (key, value) in set {
            values.offer(key, (*value).to_owned(), format!("--{key}"));
        }
        Config::resolve(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let config = resolve(&[]).expect("the defaults are valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9600");
        assert_eq!((config.data, config.keys), ("./data".into(), "./data-keys".into()));
        assert_eq!((config.shards, config.segment_bytes), (8, 64 << 20));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        for (key, value) in [
            ("data", ""),
            ("listen", "8000"),
            ("listen", "localhost"),
            ("admin_listen", "0.0.0.0:9600"),
            ("public_url", "auctions.example"),
            ("public_url", "https://auctions.example/path"),
            ("trusted_proxies", "10.0.0.0/8"),
            ("limits", "none"),
            ("seal", "none"),
            ("node", "a b"),
            ("site", ""),
            ("peers", "a=host"),
            ("peers", "a=h:1"),
            ("peers", "A=h:1,b=h:2"),
            ("peer_listen", "9700"),
            ("cluster_state", "old"),
            ("shards", "0"),
            ("shards", "256"),
            ("shards", "eight"),
            ("segment_bytes", "1048577"),
            ("snapshot_bytes", "-1"),
            ("archive", "s3://"),
            ("archive", "./data/archive"),
            ("scrub_period_s", "weekly"),
            ("scrub_period_s", "31536001"),
            ("scrub_bytes_per_s", "0"),
            ("log", "api=loud"),
        ] {
            let error = resolve(&[(key, value)]).expect_err(value);
            assert!(
                error.contains(key) && error.contains(&format!("{value:?}")) && error.contains("valid: "),
                "{error}"
            );
        }
    }

    #[test]
    fn limits_are_not_lifted_for_the_public() {
        let error =
            resolve(&[("limits", "off"), ("listen", "0.0.0.0:8000")]).expect_err("public and without limits");
        assert!(error.contains("--limits") && error.contains("0.0.0.0:8000"), "{error}");
        assert!(resolve(&[("limits", "off"), ("listen", "[::1]:0")]).is_ok());
    }

    #[test]
    fn what_is_described_is_read_again_as_the_same() {
        let set = [
            ("listen", "127.0.0.1:1"),
            ("trusted_proxies", "10.0.0.1, ::1"),
            ("public_url", "https://a.example/"),
            ("archive", "s3://bucket/a/b"),
        ];
        let config = resolve(&set).expect("valid");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        std::fs::write(&path, config.describe()).expect("written");
        let mut values = Values::default();
        values.offer_file(&path).expect("our own words");
        assert_eq!(Config::resolve(&values).expect("valid"), config);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_unknown_keys_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            let mut values = Values::default();
            values.offer("shards", "2".to_owned(), "--shards".to_owned());
            values.offer_file(&path).map(|()| values).map_err(|error| error.to_string())
        };
        let values = read("shards = 4\nnode = \"b\"\n").expect("valid");
        let config = Config::resolve(&values).expect("valid");
        assert_eq!((config.shards, config.node.as_str()), (2, "b"));
        let error = read("lisen = \"x\"").expect_err("an unknown key");
        assert!(error.contains("\"lisen\"") && error.contains("admin_listen"), "{error}");
        let error = read("shards = true").expect_err("a wrong type");
        assert!(error.contains("shards") && error.contains("true") && error.contains("1 to 255"), "{error}");
        assert!(read("shards = ").expect_err("no TOML").contains("config.toml"));
    }

    #[test]
    fn a_cluster_names_every_node_once_and_this_one_too() {
        let three = "c=h3:3,a=h1:1,b=h2:2";
        let with = |peers: &str, node: &str| {
            resolve(&[("peers", peers), ("peer_listen", "0.0.0.0:9700"), ("node", node)])
        };
        let config = with(three, "b").expect("valid");
        let cluster = config.cluster.expect("there is one");
        let names: Vec<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!((names, cluster.is_new), (vec!["a", "b", "c"], false));
        assert!(with(three, "d").expect_err("d is none").contains("\"d\", this node's name"));
        assert!(with("a=h:1,b=h:2,a=h:3", "a").expect_err("twice").contains("can't be told apart"));
        assert!(
            resolve(&[("peers", three), ("node", "a")]).expect_err("where").contains("peer_listen is missing")
        );
        let alone = resolve(&[("peer_listen", "0.0.0.0:9700")]).expect_err("for whom");
        assert!(alone.contains("together with peers"));
    }
}
