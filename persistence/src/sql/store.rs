//! A database of the projection, SQLite or MySQL: migrations, batches in one transaction with the log position,
//! checksums. One connection, used by one task; whoever gets an error opens it again and asks for the position.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Row as _, SqlSafeStr};

use super::row::{Batch, Row, Value};
use super::tables::{Kind, PROJECTION, TABLES, Table};

const MIGRATIONS: [(i64, &str, &str, &str); 1] = [(
    1,
    "auctions",
    include_str!("../../migrations/sqlite/0001_auctions.sql"),
    include_str!("../../migrations/mysql/0001_auctions.sql"),
)];

/// How many rows one statement writes: few sizes, so that few statements are prepared.
const SIZES: [usize; 4] = [256, 64, 8, 1];
/// How long SQLite waits for another writer.
const BUSY: Duration = Duration::from_secs(5);

/// Where a database is.
#[derive(Clone)]
pub enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the text is the URL without its password.
    MySql(Box<MySqlConnectOptions>, String),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Place {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::MySql(_, shown) => f.write_str(shown),
        }
    }
}

/// Not a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a database is sqlite:FILE, or mysql://USER:PASSWORD@HOST:PORT/DATABASE")]
pub struct PlaceError;

impl Place {
    /// Reads `sqlite:FILE` or `mysql://…`. A server is spoken to by TLS or through `?socket=PATH`.
    ///
    /// # Errors
    /// [`PlaceError`] says what is valid.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return if file.is_empty() { Err(PlaceError) } else { Ok(Self::Sqlite(file.into())) };
        }
        if !text.starts_with("mysql://") {
            return Err(PlaceError);
        }
        let options: MySqlConnectOptions = text.parse().map_err(|_| PlaceError)?;
        options.get_database().ok_or(PlaceError)?;
        let says_mode = text.contains("ssl-mode=") || text.contains("sslmode=");
        // The password crosses no wire in the clear, and the server's own way of hiding it needs RSA.
        let options = match options.get_socket().is_none() && !says_mode {
            true => options.ssl_mode(MySqlSslMode::Required),
            false => options,
        };
        let rest = &text["mysql://".len()..];
        let shown = match rest.rsplit_once('@') {
            Some((user, host)) => format!("mysql://{}@{host}", user.split(':').next().unwrap_or("")),
            None => text.to_owned(),
        };
        Ok(Self::MySql(Box::new(options), shown))
    }

    /// The file in a data folder.
    pub fn in_folder(data: &Path) -> Self {
        Self::Sqlite(data.join("projection.sqlite"))
    }
}

/// Why something was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or the way to it failed; whether a commit took place is unknown.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    /// The tables can't be made or are of another program.
    #[error("the tables can't be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Somebody else has written: the position is not the one expected.
    #[error("shard {shard} does not stand at entry {expected} any more")]
    Moved {
        /// The shard.
        shard: u16,
        /// Where it was expected.
        expected: u64,
    },
    /// A test broke it here.
    #[error("broken by a test")]
    Broken,
}

/// How far a shard has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The history of the log; empty before the first row.
    pub history: String,
    /// The last entry whose rows are there.
    pub entry: u64,
}

/// A step of a shard's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The shard.
    pub shard: u16,
    /// From this entry.
    pub from: u64,
    /// To this one.
    pub to: u64,
    /// The stamp of its last command, in milliseconds.
    pub at_ms: i64,
    /// The rows before `to` come from a state, not from the entries: events are missing.
    pub gap: bool,
}

/// Where a test can break a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Between two statements.
    Between,
    /// Before the commit.
    BeforeCommit,
    /// After the commit, before anybody knows.
    AfterCommit,
}

enum Connected {
    Sqlite(Box<SqliteConnection>),
    MySql(Box<MySqlConnection>),
}

/// An open database.
pub struct Store {
    connected: Connected,
    broken: Option<Point>,
}

/// The same for both databases: sqlx has no type for either.
macro_rules! either {
    ($store:expr, $connection:ident => $body:expr) => {
        match &mut $store.connected {
            Connected::Sqlite($connection) => $body,
            Connected::MySql($connection) => $body,
        }
    };
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Null => query.bind(None::<i64>),
                Value::Int(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_str()),
            };
        }
        query
    }};
}

impl Store {
    /// Opens the database, makes it where it is a file, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`] says why not.
    pub async fn open(place: &Place) -> Result<Self, StoreError> {
        let connected = match place {
            Place::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // What a power cut takes, the log gives again, position and rows together.
                    .synchronous(SqliteSynchronous::Normal)
                    .busy_timeout(BUSY);
                Connected::Sqlite(Box::new(SqliteConnection::connect_with(&options).await?))
            }
            Place::MySql(options, _) => Connected::MySql(Box::new(MySqlConnection::connect_with(options).await?)),
        };
        let mut store = Self { connected, broken: None };
        let is_mysql = store.is_mysql();
        let migrations = MIGRATIONS.map(|(version, name, sqlite, mysql)| {
            let sql = if is_mysql { mysql } else { sqlite };
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let migrator = Migrator::with_migrations(migrations.to_vec());
        either!(store, connection => migrator.run(&mut **connection).await)?;
        Ok(store)
    }

    fn is_mysql(&self) -> bool {
        matches!(self.connected, Connected::MySql(_))
    }

    /// The version of the server or library.
    ///
    /// # Errors
    /// The database failed.
    pub async fn version(&mut self) -> Result<String, StoreError> {
        let sql = if self.is_mysql() { "SELECT VERSION()" } else { "SELECT sqlite_version()" };
        Ok(either!(self, connection => sqlx::query(sql).fetch_one(&mut **connection).await?.try_get(0)?))
    }

    /// Breaks the next transaction at `point`, as a lost connection does. For tests.
    pub fn break_at(&mut self, point: Point) {
        self.broken = Some(point);
    }

    fn check(broken: &mut Option<Point>, point: Point) -> Result<(), StoreError> {
        if *broken == Some(point) { Err(StoreError::Broken) } else { Ok(()) }
    }

    /// Where each of `shards` shards stands.
    ///
    /// # Errors
    /// The database failed.
    pub async fn positions(&mut self, shards: u16) -> Result<Vec<Position>, StoreError> {
        let mut positions = vec![Position::default(); usize::from(shards)];
        for values in self.rows(&PROJECTION).await? {
            let [Value::Int(shard), Value::Text(history), Value::Int(entry), ..] = &values[..] else { continue };
            if let Some(place) = usize::try_from(*shard).ok().and_then(|shard| positions.get_mut(shard)) {
                *place = Position { history: history.clone(), entry: *entry as u64 };
            }
        }
        Ok(positions)
    }

    /// Writes rows and positions in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Moved`]: nothing was written, somebody else did. Any other: perhaps everything was written, perhaps
    /// nothing; open the database again and ask for the positions.
    pub async fn write(&mut self, history: &str, advances: &[Advance], batch: &Batch) -> Result<(), StoreError> {
        let is_mysql = self.is_mysql();
        let broken = &mut self.broken;
        either!(self, connection => {
            let mut transaction = connection.begin().await?;
            for advance in advances {
                let Advance { shard, from, to, at_ms, gap } = advance;
                let gap_to = if *gap { Value::Int(*to as i64) } else { Value::Null };
                let (shard_value, entry) = (Value::Int(i64::from(*shard)), Value::Int(*to as i64));
                if *from == 0 {
                    let verb = if is_mysql { "INSERT IGNORE" } else { "INSERT OR IGNORE" };
                    let sql = format!(
                        "{verb} INTO projection (shard, history, entry, at_ms, gap_to) VALUES (?, ?, 0, 0, NULL)"
                    );
                    bound!(sql, [&shard_value, &Value::from(history)]).execute(&mut *transaction).await?;
                }
                let sql = "UPDATE projection SET entry = ?, at_ms = ?, gap_to = COALESCE(?, gap_to) WHERE shard = ? AND history = ? AND entry = ?";
                let values = [entry, Value::Int(*at_ms), gap_to, shard_value, history.into(), Value::Int(*from as i64)];
                let done = bound!(sql.to_owned(), &values).execute(&mut *transaction).await?;
                if done.rows_affected() != 1 {
                    return Err(StoreError::Moved { shard: *shard, expected: *from });
                }
            }
            for (table, rows) in batch.tables() {
                let puts: Vec<&Vec<Value>> = rows.values().filter_map(|row| match row {
                    Row::Put(values) => Some(values),
                    Row::Delete(_) => None,
                }).collect();
                let mut rest = &puts[..];
                while !rest.is_empty() {
                    let size = SIZES.into_iter().find(|size| *size <= rest.len()).unwrap_or(1);
                    let (now, later) = rest.split_at(size);
                    rest = later;
                    let values = now.iter().flat_map(|values| values.iter());
                    bound!(upsert(table, size, is_mysql), values).execute(&mut *transaction).await?;
                    Self::check(broken, Point::Between)?;
                }
                for row in rows.values() {
                    if let Row::Delete(key) = row {
                        bound!(delete(table), key).execute(&mut *transaction).await?;
                    }
                }
            }
            Self::check(broken, Point::BeforeCommit)?;
            transaction.commit().await?;
            Self::check(broken, Point::AfterCommit)?;
        });
        Ok(())
    }

    /// Empties all tables.
    ///
    /// # Errors
    /// The database failed; the positions went first, so that a rest is never believed.
    pub async fn empty(&mut self) -> Result<(), StoreError> {
        for table in TABLES {
            let sql = format!("DELETE FROM {}", table.name);
            either!(self, connection => { sqlx::query(AssertSqlSafe(sql)).execute(&mut **connection).await?; });
        }
        Ok(())
    }

    /// All rows of a table, by key.
    ///
    /// # Errors
    /// The database failed.
    pub async fn rows(&mut self, table: &Table) -> Result<Vec<Vec<Value>>, StoreError> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let sql =
            format!("SELECT {} FROM {} ORDER BY {}", names.join(", "), table.name, names[..table.key].join(", "));
        self.select(sql, &[], table.columns.iter().map(|column| column.kind)).await
    }

    /// The rows that `sql` answers, whose columns hold `kinds`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn select(
        &mut self,
        sql: String,
        values: &[Value],
        kinds: impl Iterator<Item = Kind>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let kinds: Vec<Kind> = kinds.collect();
        let mut found = Vec::new();
        either!(self, connection => {
            for row in bound!(sql, values).fetch_all(&mut **connection).await? {
                let mut read = Vec::with_capacity(kinds.len());
                for (place, kind) in kinds.iter().enumerate() {
                    read.push(match kind {
                        Kind::Int => row.try_get::<Option<i64>, _>(place)?.into(),
                        Kind::Text => row.try_get::<Option<String>, _>(place)?.into(),
                    });
                }
                found.push(read);
            }
        });
        Ok(found)
    }

    /// SHA-256 over all rows of each table but the positions, by name: the same for both databases.
    ///
    /// # Errors
    /// The database failed.
    pub async fn checksums(&mut self) -> Result<Vec<(&'static str, String)>, StoreError> {
        let mut sums = Vec::new();
        for table in TABLES.iter().filter(|table| table.name != PROJECTION.name) {
            let mut hash = Sha256::new();
            for value in self.rows(table).await?.iter().flatten() {
                match value {
                    Value::Null => hash.update([0]),
                    Value::Int(number) => {
                        hash.update([1]);
                        hash.update(number.to_le_bytes());
                    }
                    Value::Text(text) => {
                        hash.update([2]);
                        hash.update((text.len() as u64).to_le_bytes());
                        hash.update(text);
                    }
                }
            }
            let sum = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            sums.push((table.name, sum));
        }
        Ok(sums)
    }
}

fn upsert(table: &Table, rows: usize, is_mysql: bool) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let marks = format!("({})", vec!["?"; names.len()].join(", "));
    let values = vec![marks; rows].join(", ");
    let rest = &names[table.key..];
    let (before, set): (String, Vec<String>) = if is_mysql {
        (
            " AS new ON DUPLICATE KEY UPDATE ".into(),
            rest.iter().map(|name| format!("{name} = new.{name}")).collect(),
        )
    } else {
        let key = names[..table.key].join(", ");
        let set = rest.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        (format!(" ON CONFLICT ({key}) DO UPDATE SET "), set)
    };
    format!("INSERT INTO {} ({}) VALUES {values}{before}{}", table.name, names.join(", "), set.join(", "))
}

fn delete(table: &Table) -> String {
    let keys: Vec<String> =
        table.columns[..table.key].iter().map(|column| format!("{} = ?", column.name)).collect();
    format!("DELETE FROM {} WHERE {}", table.name, keys.join(" AND "))
}
