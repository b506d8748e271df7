//! The program itself: what it says about a wrong configuration, and how it starts, serves and stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    // Nothing of the machine's own settings.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RT_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    program().args(arguments).envs(variables.iter().copied()).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_setting_is_named_with_its_value_and_what_would_be_valid() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rt.toml");
    let path = file.to_str().expect("UTF-8");
    let check = |arguments: &[&str], variables: &[(&str, &str)], parts: &[&str]| {
        let output = run(arguments, variables);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {variables:?}");
        let text = stderr(&output);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    check(&["--listen", "here"], &[], &["--listen", "\"here\"", "127.0.0.1:8000"]);
    check(&["config", "check"], &[("RT_SHARDS", "0")], &["RT_SHARDS", "\"0\"", "1 to 255"]);
    check(&["--admin-listen", "0.0.0.0:9600"], &[], &["--admin-listen", "0.0.0.0:9600", "loopback"]);
    check(&["--limits", "off", "--listen", "0.0.0.0:0"], &[], &["--limits", "off", "--listen", "0.0.0.0:0"]);
    check(&["--config", "/nowhere/rt.toml"], &[], &["/nowhere/rt.toml", "cannot be read"]);
    check(&["--no-such-flag"], &[], &["--no-such-flag"]);
    check(&["--database", "postgres://a/b"], &[], &["--database", "mysql://USER"]);
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\ncolour = \"red\"\n").expect("written");
    check(&["config", "check", "--config", path], &[], &["colour", "valid keys", "admin_listen"]);
    std::fs::write(&file, "shards = \"many\"\n").expect("written");
    check(&["--config", path], &[], &["shards", "\"many\"", "1 to 255"]);
    std::fs::write(&file, "shards = 3\nlisten = \"127.0.0.1:1\"\n").expect("written");
    let output =
        run(&["config", "check", "--config", path, "--listen", "127.0.0.1:2"], &[("RT_LISTEN", "127.0.0.1:3")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("shards = 3\n") && text.contains("listen = \"127.0.0.1:2\"\n"),
        "{text}"
    );
}

#[test]
fn the_help_names_every_command_and_setting() {
    let output = run(&["--help"], &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for word in
        ["serve", "demo", "simulate", "log", "config", "--data", "RT_DATA", "--admin-listen", "/readyz", "SIGTERM"]
    {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(run(&["--version"], &[]).status.success());
}

#[test]
fn certificates_of_a_cluster_are_made_by_two_commands() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let (ca, keys, other) = (path("ca"), path("keys"), path("other"));
    let made = run(&["keys", "ca", &ca], &[]);
    assert!(made.status.success(), "{}", stderr(&made));
    let cluster = std::fs::read_to_string(format!("{ca}/cluster")).expect("the cluster's id");
    assert!(String::from_utf8_lossy(&made.stdout).contains(cluster.trim()));
    let again = run(&["keys", "ca", &ca], &[]);
    assert!(again.status.code() == Some(2) && stderr(&again).contains("made once"), "{}", stderr(&again));

    let node = run(&["keys", "node", "frankfurt-1", "--ca", &ca, "--keys", &keys], &[]);
    assert!(node.status.success(), "{}", stderr(&node));
    for file in ["ca.pem", "node.pem", "node.key", "cluster"] {
        let metadata = std::fs::metadata(format!("{keys}/peer/{file}")).expect("made");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600, "{file}");
    }
    assert!(!Path::new(&format!("{keys}/peer/ca.key")).exists(), "no node has the authority's key");
    let wrong = run(&["keys", "node", "Frankfurt 1", "--ca", &ca, "--keys", &keys], &[]);
    assert!(wrong.status.code() == Some(2) && stderr(&wrong).contains("frankfurt-1"), "{}", stderr(&wrong));
    let missing = run(&["keys", "node", "london-1", "--ca", &other, "--keys", &keys], &[]);
    assert!(missing.status.code() == Some(1) && stderr(&missing).contains("keys ca"), "{}", stderr(&missing));
}

#[test]
fn a_scenario_that_cannot_be_read_is_named_by_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("scenario.jsonl");
    std::fs::write(&file, "\n{\"at\":\"soon\",\"do\":\"end\"}\n").expect("written");
    let output = run(&["simulate", file.to_str().expect("UTF-8")], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("line 2"), "{}", stderr(&output));
    let output = run(&["simulate", "/nowhere.jsonl"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere.jsonl"), "{}", stderr(&output));
}

/// A running program that is killed when a test ends early.
struct Running {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Running {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(arguments);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--segment-bytes",
            "1048576",
            "--data",
        ]);
        let mut child = command.arg(data).stderr(Stdio::piped()).spawn().expect("the program runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let ready = loop {
            let line = lines.next().expect("it says where it serves").expect("text");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if line["message"] == "Serving" {
                break line;
            }
        };
        // Whatever else it says must not fill the pipe.
        let said = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().expect("nobody panics with it") += &format!("{line}\n");
            }
        });
        let address = |name: &str| ready[name].as_str().expect("an address").parse().expect("an address");
        Self { child, address: address("address"), admin: address("admin_address"), said }
    }

    /// Asks it to stop; its exit status and everything it said after it began to serve.
    fn stop(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a signal");
        let status = self.child.wait().expect("it ends");
        let said = self.said.lock().expect("nobody panics with it").clone();
        (status.code(), said)
    }

    fn post(address: SocketAddr, path: &str, headers: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let body = body.to_string();
        let length = body.len();
        let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
        write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn it_serves_until_it_is_asked_to_stop_and_then_drains() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    for round in 0..2 {
        let running = Running::start(&data);
        assert!(Running::get(running.admin, "/readyz").starts_with("HTTP/1.1 200"), "round {round}");
        assert!(Running::get(running.address, "/v1/time").starts_with("HTTP/1.1 200"));
        let (status, said) = running.stop();
        assert_eq!(status, Some(0), "round {round}: {said}");
    }
    let verified = run(&["log", "verify", "--data", data.to_str().expect("UTF-8")], &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    let inspected = run(&["log", "inspect", "--data", data.to_str().expect("UTF-8")], &[]);
    assert!(String::from_utf8_lossy(&inspected.stdout).contains("AnnounceKey"), "{inspected:?}");
    assert_eq!(run(&["log", "verify", "--data", "/nowhere"], &[]).status.code(), Some(3));
}

#[test]
fn even_the_wordiest_log_holds_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let running = Running::start_with(&directory.path().join("data"), &["--log", "trace"]);
    let address = running.address;
    let (email, password) = ("marker-address@example.com", "marker-password-1");
    let body = json!({
        "email": email, "password": password, "name": "Marker Name", "organisation": { "name": "O", "kind": "buyer" },
    });
    Running::post(address, "/v1/auth/register", "", &body);
    let wrong = json!({ "email": email, "password": "marker-password-2" });
    assert_eq!(Running::post(address, "/v1/auth/token", "", &wrong)["code"], "credentials_invalid");
    let tokens = Running::post(address, "/v1/auth/token", "", &json!({ "email": email, "password": password }));
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    let headers = format!("Authorization: Bearer {access}\r\n");
    assert_eq!(Running::post(address, "/v1/tenders", &headers, &json!({}))["code"], "malformed");
    Running::post(address, "/v1/auth/refresh", "", &json!({ "refresh_token": refresh }));
    let (status, said) = running.stop();
    assert_eq!(status, Some(0));
    assert!(said.contains("/v1/auth/token"), "the log was wordy: {said:.500}");
    for secret in
        [email, "marker-password", "Marker Name", access.as_str(), &access[access.len() - 40..], refresh.as_str()]
    {
        assert!(!said.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn two_programs_do_not_share_a_data_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let _running = Running::start(&data);
    let data = data.to_str().expect("UTF-8");
    let second = run(&["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", data], &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains(data), "{}", stderr(&second));
}
