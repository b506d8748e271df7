//! The real program as a child process: started on free ports in a folder, ready when it says so, ended at the end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::client::Http;

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(60);

/// A running `reversetender serve`.
pub struct Server {
    child: Child,
    /// `HOST:PORT` of the public listener.
    pub address: String,
    /// `HOST:PORT` of the admin listener.
    pub admin: String,
}

impl Server {
    /// Starts `program` on `data` with rates off, and waits until it is ready.
    pub async fn start(program: &Path, data: &Path) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let child = Command::new(program)
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", &address, "--admin-listen", &admin, "--limits", "off", "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut this = Self { child, address, admin };
        let started = Instant::now();
        while !this.ready().await {
            if let Some(status) = this.child.try_wait()? {
                bail!("the server ended before it was ready: {status}");
            }
            if started.elapsed() > START_MAX {
                bail!("the server was not ready within {START_MAX:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(this)
    }

    async fn ready(&self) -> bool {
        let Ok(mut http) = Http::connect(&self.admin).await else { return false };
        let answer = http.send("GET", "/readyz", None, None, &Value::Null).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its folder is thrown away; what a kill leaves behind is tried elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that nobody listens on. Somebody may take it before the server does; the start then fails.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The program, built beside the one that is running.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("reversetender")).find(|path| path.is_file());
    found.with_context(|| format!("no `reversetender` beside {}: cargo build -p api", own.display()))
}

/// The program for a test: the one beside the test, built when there is none. With `cargo test --workspace` it is
/// there and fresh; with `-p bench` alone it may be older than the code.
pub fn program_built() -> Result<PathBuf> {
    if let Ok(program) = program() {
        return Ok(program);
    }
    println!("building reversetender for this test (cargo build -p api)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "-p", "api", "--bin", "reversetender"]).status()?;
    anyhow::ensure!(status.success(), "building reversetender failed");
    program()
}
