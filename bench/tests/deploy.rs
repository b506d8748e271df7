//! The deployment files are what they say: the unit is hardened and valid, the configuration is accepted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().expect("bench/ lies in the workspace").to_path_buf()
}

fn unit() -> String {
    let path = root().join("deploy/systemd/reversetender.service");
    fs::read_to_string(path).expect("the unit can be read")
}

/// The values of `key` in the unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let mark = format!("{key}=");
    unit.lines().filter_map(|line| line.strip_prefix(mark.as_str())).collect()
}

#[test]
fn the_unit_is_hardened() {
    let unit = unit();
    for (key, value) in [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateUsers", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("LimitCORE", "0"),
        ("StateDirectory", "reversetender"),
        ("StateDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("Restart", "on-failure"),
        ("KillSignal", "SIGTERM"),
    ] {
        assert_eq!(values(&unit, key), [value], "{key}");
    }
    assert_eq!(values(&unit, "SystemCallFilter").first(), Some(&"@system-service"));
    let number = |key: &str| -> u64 {
        let value = *values(&unit, key).first().unwrap_or_else(|| panic!("{key} is set"));
        value.parse().unwrap_or_else(|_| panic!("{key} is a number: {value}"))
    };
    assert!(number("LimitNOFILE") >= 16_384, "a socket is a descriptor");
    assert!(number("TimeoutStopSec") >= 30, "the drain has its time");
}

#[test]
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().expect("a folder for the unit");
    let path = folder.path().join("reversetender.service");
    // The program is not installed here; everything else is verified as it is.
    fs::write(&path, unit().replace("=/usr/bin/reversetender", "=/bin/true")).expect("the unit is written");
    let output = match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => output,
        Err(error) => {
            println!("systemd-analyze can't be run here ({error}): the unit's keys are checked by the test above");
            return;
        }
    };
    let told = String::from_utf8_lossy(&output.stderr);
    // Whatever it says about this file is a fault; what it says about the machine's own units isn't.
    let about_us: Vec<_> = told.lines().filter(|line| line.contains("reversetender")).collect();
    assert!(about_us.is_empty(), "{about_us:#?}");
}

#[test]
fn the_unit_and_the_configuration_name_the_same_folders() {
    let text = fs::read_to_string(root().join("deploy/reversetender.toml")).expect("it can be read");
    let configuration: toml::Table = text.parse().expect("the configuration is TOML");
    let folder = |key: &str| configuration[key].as_str().expect("a folder is text").to_owned();
    let state = format!("/var/lib/{}/", values(&unit(), "StateDirectory")[0]);
    let (data, keys) = (folder("data"), folder("keys"));
    assert!(data.starts_with(&state) && keys.starts_with(&state), "only {state} can be written");
    assert!(!keys.starts_with(&format!("{data}/")), "keys are not under the data they seal");
    for listen in ["listen", "admin_listen"] {
        assert!(folder(listen).starts_with("127.0.0.1:"), "{listen} is on loopback, a proxy is in front");
    }
    assert_eq!(folder("limits"), "default");
}

/// Runs `reversetender config check` on a file, without settings from the environment.
fn config_check(file: &Path) -> (bool, String, String) {
    let program = bench::server::program_built().expect("the program is built");
    let output = Command::new(program)
        .args(["config", "check", "--config"])
        .arg(file)
        .env_clear()
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_program_accepts_the_configuration_and_knows_no_other_setting() {
    let path = root().join("deploy/reversetender.toml");
    let (accepted, told, errors) = config_check(&path);
    assert!(accepted, "{told}{errors}");
    // It tells what holds, one setting a line: every one of them stands in the file, with the value it has there.
    let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
    let lines: String = told.lines().filter(|line| line.contains(" = ")).map(|line| format!("{line}\n")).collect();
    let told: toml::Table = lines.parse().expect("the settings are told as TOML");
    let written: toml::Table = fs::read_to_string(path).expect("it can be read").parse().expect("it is TOML");
    assert_eq!(keys(&told), keys(&written));
    assert_eq!(told, written);
}

#[test]
fn a_wrong_setting_is_named_with_what_would_be_valid() {
    let folder = tempfile::tempdir().expect("a folder for configurations");
    let path = folder.path().join("wrong.toml");
    for (line, names) in [
        ("limitz = \"off\"", ["limitz", "limits"]),
        ("limits = \"of\"", ["\"of\"", "off"]),
        ("shards = 4000", ["4000", "255"]),
        ("listen = \"8000\"", ["8000", "127.0.0.1:8000"]),
    ] {
        fs::write(&path, line).expect("it is written");
        let (accepted, told, errors) = config_check(&path);
        assert!(!accepted, "{line}");
        let said = told + &errors;
        assert!(names.iter().all(|name| said.contains(name)), "{line}: {said}");
    }
}
