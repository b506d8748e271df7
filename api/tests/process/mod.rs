//! The program started as a process of its own, to be killed, filled up and started again.

#![allow(dead_code)] // Every test binary uses its own part of it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Client, PASSWORD, sign_in};

/// The program as a process of its own.
pub struct Process {
    child: Child,
    /// Where API and feed are.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    dir: PathBuf,
    home: PathBuf,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
}

/// An address that nobody listens on now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn spawn(
    dir: &Path,
    home: &Path,
    (address, admin): (SocketAddr, SocketAddr),
    settings: &[String],
    environment: &[(String, String)],
) -> Child {
    let errors = std::fs::OpenOptions::new().create(true).append(true).open(home.join("stderr")).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_reversetender"))
        .args(["serve", "--limits", "off", "--shards", "2", "--segment-bytes", "262144"])
        .args(["--data".as_ref(), dir.join("data").as_os_str()])
        .args(["--keys".as_ref(), home.join("keys").as_os_str()])
        .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
        .args(settings)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("the program starts")
}

impl Process {
    /// Starts it with its data in `dir`, its keys and what it says in `home`, and waits until it serves.
    pub async fn start(dir: &Path, home: &Path) -> Self {
        Self::start_with(dir, home, &[]).await
    }

    /// As [`Process::start`], with more settings on the command line.
    pub async fn start_with(dir: &Path, home: &Path, settings: &[&str]) -> Self {
        let process = Self::spawn_with(dir, home, settings);
        process.ready().await;
        process
    }

    /// As [`Process::start_with`], and does not wait until it serves.
    pub fn spawn_with(dir: &Path, home: &Path, settings: &[&str]) -> Self {
        let (address, admin) = (free_address(), free_address());
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        let child = spawn(dir, home, (address, admin), &settings, &[]);
        Self {
            child,
            address,
            admin,
            dir: dir.to_owned(),
            home: home.to_owned(),
            settings,
            environment: Vec::new(),
        }
    }

    fn spawn_child(&self) -> Child {
        spawn(&self.dir, &self.home, (self.address, self.admin), &self.settings, &self.environment)
    }

    /// What its environment holds from the next start on.
    pub fn set_environment(&mut self, environment: &[(&str, &str)]) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = environment.iter().map(own).collect();
    }

    /// A client without a token.
    pub fn client(&self) -> Client {
        Client { address: self.address, token: None }
    }

    /// A client of the admin listener.
    pub fn admin(&self) -> Client {
        Client { address: self.admin, token: None }
    }

    /// Waits until it serves.
    pub async fn ready(&self) {
        for _ in 0..400 {
            // The client takes a refused connection for a failed test, so it asks only when somebody listens.
            if TcpStream::connect(self.admin).await.is_ok() && self.admin().get("/readyz").await.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never ready: {}", self.said());
    }

    /// What it wrote to standard error so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.home.join("stderr")).unwrap_or_default()
    }

    /// SIGSTOP: it takes nothing more and answers nothing more until it is killed.
    pub fn freeze(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("frozen");
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("thawed");
    }

    /// Waits until it ends by itself, and answers the exit status.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().expect("reaped").code()
    }

    /// Its disk is lost: a start finds an empty data directory. With other settings from then on.
    pub fn lose_disk(&mut self, settings: &[&str]) {
        std::fs::remove_dir_all(self.dir.join("data")).expect("removed");
        self.settings = settings.iter().map(|text| (*text).to_owned()).collect();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// A start on the same data, which is not waited for.
    pub fn spawn_again(&mut self) {
        self.child = self.spawn_child();
    }

    /// SIGKILL, and a start on the same data.
    pub async fn kill_and_start(&mut self) {
        self.child.kill().expect("killed");
        self.start_again().await;
    }

    /// Waits until it has ended, and starts it on data with which it ends before it serves. Answers both exit statuses.
    pub fn start_in_vain(&mut self) -> (Option<i32>, Option<i32>) {
        let first = self.child.wait().expect("reaped");
        self.child = self.spawn_child();
        let second = self.child.wait().expect("reaped");
        (first.code(), second.code())
    }

    /// Waits until it has ended, and starts it on the same data. Answers the exit status.
    pub async fn start_again(&mut self) -> Option<i32> {
        let status = self.child.wait().expect("reaped");
        self.child = self.spawn_child();
        self.ready().await;
        status.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Signs up `name` with an organisation of its own, and signs in: its client, and the organisation's id.
pub async fn sign_up(client: &Client, name: &str, kind: &str) -> (Client, String) {
    let email = format!("{name}@example.com");
    let organisation = json!({ "name": name, "kind": kind });
    let body = json!({ "email": email, "password": PASSWORD, "name": name, "organisation": organisation });
    let made = client.post("/v1/auth/register", &body).await.expect(201);
    let (token, _) = sign_in(client, &email, PASSWORD).await;
    (client.with_token(&token), made["organisation"]["id"].as_str().expect("an id").to_owned())
}
