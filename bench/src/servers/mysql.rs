//! MySQL from Debian sid as a child process: fetched once by an apt configuration of its own, unpacked into a folder, run
//! by its own loader; and just enough of its protocol to send a statement. Installs nothing on the machine.
//!
//! MariaDB, when it is installed, is the announced fallback where nothing can be fetched.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long a first start, which makes its tables, or a start may take.
const START_MAX: Duration = Duration::from_secs(60);
/// Where Debian puts its libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SOURCE: &str = "http://deb.debian.org/debian sid main";
const PACKAGES: [&str; 3] = ["libc6", "mysql-server-core", "mysql-client-core"];

/// Flags of the handshake: long password, connect with a database later, protocol 4.1, secure connection, plugin named.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;

/// How a `mysqld` is called.
pub struct Program {
    program: PathBuf,
    before: Vec<OsString>,
    version: String,
    maria: bool,
}

impl Program {
    /// Finds the unpacked server in `cache`, or fetches it there (some 70 MB; 400 MB unpacked); else a MariaDB that is
    /// installed. None when the machine has neither apt nor MariaDB, or no network; the reason is printed.
    pub fn find(cache: &Path) -> Option<Self> {
        let root = cache.join("root");
        let fetched = if root.join("usr/sbin/mysqld").is_file() { Ok(()) } else { fetch(cache, &root) };
        match fetched.and_then(|()| Self::unpacked(&root)) {
            Ok(this) => return Some(this),
            Err(error) => println!("MySQL could not be fetched: {error:#}"),
        }
        let program =
            ["/usr/sbin/mariadbd", "/usr/sbin/mysqld"].iter().map(PathBuf::from).find(|path| path.is_file())?;
        println!("falling back to {}", program.display());
        let version = version(Command::new(&program)).ok()?;
        let maria = version.contains("MariaDB");
        Some(Self { program, before: Vec::new(), version, maria })
    }

    fn unpacked(root: &Path) -> Result<Self> {
        let root = root.canonicalize()?;
        let libraries = root.join(LIBRARIES);
        let program = libraries.join("ld-linux-x86-64.so.2");
        let before = vec!["--library-path".into(), libraries.into(), root.join("usr/sbin/mysqld").into()];
        let mut this = Self { program, before, version: String::new(), maria: false };
        this.version = version(this.command())?;
        Ok(this)
    }

    /// Its name and version, as it says.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn version(mut command: Command) -> Result<String> {
    let output = command.arg("--version").stdout(Stdio::piped()).output()?;
    ensure!(output.status.success(), "`--version` failed: {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let behind = said.split("Ver ").nth(1).context("no version")?;
    let number = behind.split(' ').next().unwrap_or("?");
    let name = if said.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    Ok(format!("{name} {number}"))
}

/// Downloads the packages by an apt configuration of their own below `cache` and unpacks them into `root`.
fn fetch(cache: &Path, root: &Path) -> Result<()> {
    println!("fetching MySQL from Debian sid into {} (some 30 s, 400 MB)", cache.display());
    fs::create_dir_all(cache)?;
    let cache = cache.canonicalize()?;
    let apt = cache.join("apt");
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(apt.join("sources.list"), format!("deb [signed-by={KEYRING}] {SOURCE}\n"))?;
    let at = |name: &str| apt.join(name).display().to_string();
    // The age of the lists is not checked, as where mirrors are frozen; their signatures are.
    let configuration = format!(
        "Dir::State \"{}\";\nDir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
         Dir::Cache::archives \"{}\";\nDir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\nAcquire::Languages \"none\";\n\
         Acquire::Check-Valid-Until \"false\";\nAPT::Install-Recommends \"false\";\n",
        at(""),
        at("lists"),
        at("status"),
        at(""),
        at("archives"),
        at("sources.list")
    );
    fs::write(apt.join("apt.conf"), configuration)?;
    let apt_get = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        let output = command.env("APT_CONFIG", apt.join("apt.conf")).args(arguments).output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "apt-get {}: {why}", arguments.join(" "));
        Ok(())
    };
    apt_get(&["update", "-qq"])?;
    apt_get(&[&["install", "-y", "-qq", "--download-only"][..], &PACKAGES].concat())?;
    // Put in place when it is whole: a fetch that was broken off begins anew.
    let unpacking = cache.join("unpacking");
    if unpacking.exists() {
        fs::remove_dir_all(&unpacking)?;
    }
    for package in fs::read_dir(apt.join("archives"))? {
        let package = package?.path();
        if package.extension().is_some_and(|ending| ending == "deb") {
            let status = Command::new("dpkg").arg("-x").arg(&package).arg(&unpacking).status()?;
            ensure!(status.success(), "dpkg -x {}: {status}", package.display());
            fs::remove_file(&package)?;
        }
    }
    fs::rename(&unpacking, root)?;
    Ok(())
}

/// A running server that flushes its log at every commit.
pub struct Mysql {
    child: Child,
    socket: PathBuf,
}

impl Mysql {
    /// Makes a database in the new folder `folder` and starts it, on a socket in that folder and no port.
    /// `innodb_flush_log_at_trx_commit` is 1; there is no binary log, which is one flush fewer a group.
    pub fn start(program: &Program, folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize()?;
        let data = folder.join("data");
        // Paths of sockets may have 107 bytes only.
        let socket = std::env::temp_dir().join(format!("rt-mysql-{}-{}.sock", std::process::id(), unique()));
        ensure!(!program.maria || fs::create_dir(&data).is_ok(), "no folder for MariaDB");
        let common = |command: &mut Command| {
            command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).arg("--user=root");
        };
        let mut making = program.command();
        common(&mut making);
        if program.maria {
            making = Command::new("mariadb-install-db");
            making.stdout(Stdio::null());
            common(&mut making);
            making.arg("--auth-root-authentication-method=normal");
        } else {
            making.arg("--initialize-insecure");
        }
        let status = making.status()?;
        ensure!(status.success(), "the database could not be made: {status}");
        let mut command = program.command();
        common(&mut command);
        command
            .arg(format!("--socket={}", socket.display()))
            .args(["--skip-networking", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M"])
            .args(["--max-connections=200", "--skip-log-bin"]);
        if !program.maria {
            command.args(["--mysqlx=OFF", "--secure-file-priv=NULL"]);
        }
        let mut this = Self { child: command.spawn()?, socket };
        let started = Instant::now();
        while this.connect().is_err() {
            if let Some(status) = this.child.try_wait()? {
                bail!("mysqld ended before it was ready: {status}");
            }
            ensure!(started.elapsed() < START_MAX, "mysqld was not ready within {START_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(this)
    }

    /// A connection as the one user, who has no password.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket)
    }
}

fn unique() -> u64 {
    let mut bytes = [0; 8];
    persistence::system_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl Drop for Mysql {
    fn drop(&mut self) {
        // Its folder is thrown away.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(self.socket.with_extension("sock.lock"));
    }
}

/// A connection that sends statements one at a time.
pub struct Connection {
    stream: UnixStream,
    packet: Vec<u8>,
}

impl Connection {
    fn open(socket: &Path) -> Result<Self> {
        let mut this = Self { stream: UnixStream::connect(socket)?, packet: Vec::new() };
        this.read()?;
        ensure!(this.packet.first() == Some(&10), "an unknown handshake");
        let mut answer = CAPABILITIES.to_le_bytes().to_vec();
        answer.extend((1u32 << 24).to_le_bytes());
        answer.push(45); // utf8mb4
        answer.extend([0; 23]);
        // The user, and an answer of no bytes: no password.
        answer.extend(b"root\0\0mysql_native_password\0");
        this.write(1, &answer)?;
        this.read()?;
        if this.packet.first() == Some(&0xFE) {
            // Asks to go on with the plugin of the user; an empty password is told by an empty packet.
            this.write(3, &[])?;
            this.read()?;
        }
        this.affected()?;
        Ok(this)
    }

    /// Sends a statement that returns no rows; how many rows it changed.
    pub fn execute(&mut self, statement: &str) -> Result<u64> {
        let mut packet = vec![3];
        packet.extend(statement.as_bytes());
        self.write(0, &packet)?;
        self.read()?;
        self.affected()
    }

    fn affected(&self) -> Result<u64> {
        match self.packet[..] {
            [0, few, ..] if few < 0xFB => Ok(u64::from(few)),
            [0xFF, ..] => {
                bail!("MySQL refused: {}", String::from_utf8_lossy(self.packet.get(3..).unwrap_or_default()))
            }
            _ => bail!("an answer that was not expected: {:?}", self.packet),
        }
    }

    fn write(&mut self, number: u8, packet: &[u8]) -> Result<()> {
        let mut bytes = (packet.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(number);
        bytes.extend(packet);
        self.stream.write_all(&bytes)?;
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        self.packet.resize(u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize, 0);
        self.stream.read_exact(&mut self.packet)?;
        Ok(())
    }
}
