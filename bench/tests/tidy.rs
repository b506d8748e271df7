//! Rules about the repository that a reader can rely on: openings, stubs, lengths, purity, directions, links, floors.
//! Reads files only; builds and runs nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use engine::Refusal;

/// Most lines of one source file.
const LINES_MAX: usize = 900;

fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().expect("bench/ lies in the workspace").to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder` whose name ends with one of `endings`, without what is built or fetched.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project can be read") {
            let path = entry.expect("an entry of the project can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "node_modules" | "data") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[track_caller]
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Source without comments and without what stands between quotes on one line, for scans by word.
fn code_only(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        let line = line.split("//").next().unwrap_or_default();
        for (place, part) in line.split('"').enumerate() {
            if place % 2 == 0 {
                code.push_str(part);
            }
        }
        code.push('\n');
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    let silent: Vec<_> = files(&root(), &[".rs"])
        .iter()
        .filter(|path| {
            let first = read(path).lines().next().unwrap_or_default().to_owned();
            first.strip_prefix("//! ").is_none_or(|words| words.trim().is_empty())
        })
        .map(|path| shown(path))
        .collect();
    none(&silent, "a file opens with `//! ` and what it owns");
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    // Put together here, so that this file doesn't find itself.
    let marks = [["to", "do!("], ["unimple", "mented!("], ["d", "bg!("], ["FIX", "ME"], ["#[ig", "nore"]];
    let mut found = Vec::new();
    for path in files(&root(), &[".rs", ".ts", ".sh"]) {
        for (number, line) in read(&path).lines().enumerate() {
            if marks.iter().any(|[a, b]| line.contains(&format!("{a}{b}"))) {
                found.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    // The document and the chores name what is forbidden.
    found.retain(|line| !line.starts_with("bench/src/bin/xtask.rs"));
    none(&found, "no stubs, no leftovers, no tests that don't run");
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = files(&root(), &[".rs", ".ts", ".css"])
        .iter()
        .map(|path| (read(path).lines().count(), shown(path)))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none(&long, "a file has at most 900 lines");
}

/// What the engine may depend on: none of these does I/O, reads a clock or draws random numbers.
const ENGINE_DEPENDENCIES: &[&str] = &["hashbrown", "sha2", "smallvec", "wincode"];

/// What would make a replay differ or tie the engine to a machine.
const IMPURE: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "rand",
    "f32",
    "f64",
    "SystemTime",
    "Instant",
    "RandomState",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "println",
    "eprintln",
    "tokio",
    "async",
    "await",
    "thread_local",
    "AtomicU64",
    "Mutex",
    "RwLock",
];

#[test]
fn the_engine_is_pure() {
    let manifest = manifest("engine");
    let dependencies: BTreeSet<_> = table_keys(&manifest, "dependencies").into_iter().collect();
    let allowed: BTreeSet<_> = ENGINE_DEPENDENCIES.iter().map(|name| (*name).to_owned()).collect();
    assert!(dependencies.is_subset(&allowed), "engine/ depends on {dependencies:?}, allowed are {allowed:?}");

    let mut found = Vec::new();
    for path in files(&root().join("engine/src"), &[".rs"]) {
        let source = read(&path);
        // Tests at the end of a file may print or use what they like; what runs may not.
        let runs = source.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code_only(runs);
        for word in words(&code) {
            let hit = IMPURE.iter().find(|bad| word == **bad || word.starts_with(&format!("{bad}::")));
            if let Some(bad) = hit {
                found.push(format!("{}: {bad}", shown(&path)));
            }
        }
        let grouped = code.lines().filter(|line| line.contains("std::collections::{"));
        for line in grouped.filter(|line| line.contains("HashMap") || line.contains("HashSet")) {
            found.push(format!("{}: {}", shown(&path), line.trim()));
        }
    }
    none(&found, "the engine has no I/O, clock, randomness, threads, floats or hash order");
}

fn manifest(package: &str) -> toml::Table {
    let path = root().join(package).join("Cargo.toml");
    read(&path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table_keys(manifest: &toml::Table, table: &str) -> Vec<String> {
    let table = manifest.get(table).and_then(toml::Value::as_table);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() {
    let ours = ["engine", "persistence", "api", "bench", "simulator"];
    let allowed: [(&str, &[&str]); 5] = [
        ("engine", &[]),
        ("persistence", &["engine"]),
        ("api", &["engine", "persistence"]),
        ("bench", &["engine", "persistence"]),
        ("bench/simulator", &["engine", "persistence", "api"]),
    ];
    for (package, below) in allowed {
        let manifest = manifest(package);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in table_keys(&manifest, table) {
                let fine = !ours.contains(&name.as_str()) || below.contains(&name.as_str());
                assert!(fine, "{package} must not depend on {name} ({table})");
            }
        }
    }
}

#[test]
fn every_package_takes_versions_and_lints_from_the_workspace() {
    for package in ["engine", "persistence", "api", "bench", "bench/simulator"] {
        let manifest = manifest(package);
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "{package}: [lints] workspace = true");
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in table {
                let shared = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(shared, "{package}: {name} takes its version from the workspace");
            }
        }
    }
}

/// Lowest versions that published advisories allow, for crates that may come into the lock file.
const FLOORS: &[(&str, &str, &str)] = &[
    ("aws-lc-sys", "0.39.0", "RUSTSEC-2026-0044, -0048"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("crossbeam-epoch", "0.9.20", "RUSTSEC-2026-0204"),
    ("h2", "0.4.17", "RUSTSEC-2026-0258"),
    ("jsonwebtoken", "10.3.0", "CVE-2026-25537"),
    ("lz4_flex", "0.12.1", "RUSTSEC-2026-0041"),
    ("quick-xml", "0.41.0", "RUSTSEC-2026-0194, -0195"),
    ("rkyv", "0.8.17", "RUSTSEC-2026-0235"),
    ("rustls", "0.23.45", "RUSTSEC-2026-0285"),
    ("rustls-webpki", "0.103.16", "RUSTSEC-2026-0049, -0104"),
    ("sqlx", "0.8.1", "protocol confusion by truncation"),
    ("tokio", "1.24.2", "RUSTSEC-2023-0005"),
    ("tungstenite", "0.20.1", "RUSTSEC-2023-0065"),
];

/// Crates that must not be built, whatever features are on.
const BANNED: &[(&str, &str)] = &[
    ("ring", "one provider of cryptography: aws-lc-rs"),
    ("rsa", "RUSTSEC-2023-0071 has no fix"),
    ("openssl-sys", "one provider of cryptography: aws-lc-rs"),
    ("native-tls", "one provider of cryptography: aws-lc-rs"),
    ("proc-macro-error2", "RUSTSEC-2026-0173, unmaintained"),
    ("paste", "RUSTSEC-2024-0436, unmaintained"),
];

struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

fn lock_file() -> Vec<Locked> {
    let lock: toml::Table = read(&root().join("Cargo.lock")).parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().expect("Cargo.lock lists packages");
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let locked = |package| Locked {
        name: text(package, "name").expect("a package has a name"),
        version: text(package, "version").expect("a package has a version"),
        source: text(package, "source"),
    };
    packages.iter().map(locked).collect()
}

fn version(text: &str) -> Vec<u64> {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').map(|part| part.parse().expect("a version is made of numbers")).collect()
}

/// Who would have `package` built, with all features; empty when nobody does.
fn users_of(package: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "--workspace", "--all-features", "--locked", "--edges", "all", "--invert", package];
    let tree = std::process::Command::new(cargo).current_dir(root()).args(arguments).output().expect("cargo runs");
    let (told, warned) = (String::from_utf8_lossy(&tree.stdout), String::from_utf8_lossy(&tree.stderr));
    assert!(!told.is_empty() || warned.contains("nothing to print"), "cargo tree: {warned}");
    told.into_owned()
}

#[test]
fn the_lock_file_keeps_the_advisory_floors() {
    let packages = lock_file();
    assert!(packages.len() > 50, "the lock file was read");
    for package in &packages {
        for (name, floor, advisory) in FLOORS.iter().filter(|(name, ..)| package.name == *name) {
            let fine = version(&package.version) >= version(floor);
            assert!(fine, "{name} {} is below {floor} ({advisory})", package.version);
        }
        // Cargo also locks what a feature that nobody switches on would bring; that much may stand there.
        let banned = BANNED.iter().find(|(name, _)| package.name == *name);
        let users = banned.map(|(name, _)| users_of(name)).unwrap_or_default();
        assert!(users.is_empty(), "{banned:?} is built:\n{users}");
        if let Some(source) = &package.source {
            let registry = "registry+https://github.com/rust-lang/crates.io-index";
            assert_eq!(source, registry, "{} comes from crates.io", package.name);
        }
    }
}

#[test]
fn bincode_is_an_oracle_of_tests_and_nothing_else() {
    for package in ["engine", "persistence", "api", "bench"] {
        let dependencies = table_keys(&manifest(package), "dependencies");
        assert!(!dependencies.iter().any(|name| name == "bincode"), "{package} must not ship bincode");
    }
    let bincode: Vec<_> = lock_file().into_iter().filter(|package| package.name == "bincode").collect();
    assert!(bincode.iter().all(|package| package.version == "2.0.1"), "bincode 3 does not compile");
}

/// Refusals that no English auction can answer: they belong to formats that aren't there yet.
const OF_OTHER_FORMATS: &[Refusal] =
    &[Refusal::NotYourTurn, Refusal::StaleStep, Refusal::AlreadyOut, Refusal::PrebidRequired];

#[test]
fn every_refusal_is_named_in_a_script_test_of_the_engine() {
    let scripts: String =
        files(&root().join("engine/tests"), &[".rs", ".txt", ".script"]).iter().map(|path| read(path)).collect();
    let named: BTreeSet<&str> = scripts.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    // Scripts write codes, as clients read them; tests of the accounts write the variants.
    let is_named =
        |refusal: &Refusal| named.contains(refusal.code()) || scripts.contains(&format!("Refusal::{refusal:?}"));
    let silent: Vec<_> = Refusal::ALL
        .iter()
        .filter(|refusal| !OF_OTHER_FORMATS.contains(refusal) && !is_named(refusal))
        .map(|refusal| refusal.code().to_owned())
        .collect();
    none(&silent, "a refusal is answered in a story of engine/tests/");
}

#[test]
fn refusals_are_told_apart_by_code_and_number() {
    let codes: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
    let numbers: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.number()).collect();
    assert_eq!((codes.len(), numbers.len()), (Refusal::ALL.len(), Refusal::ALL.len()));
    assert!(Refusal::ALL.iter().all(|refusal| Refusal::from_code(refusal.code()) == Some(*refusal)));
}

#[test]
fn every_page_of_bytes_is_held_against_the_constants() {
    let code: String = files(&root().join("persistence"), &[".rs"]).iter().map(|path| read(path)).collect();
    let pages = files(&root().join("persistence/docs"), &[".md"]);
    assert!(!pages.is_empty(), "persistence/docs/ draws what is on disk");
    let loose: Vec<_> = pages
        .iter()
        .filter(|page| {
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            read(page).contains("| offset |") && !code.contains(&format!("docs/{name}\""))
        })
        .map(|page| shown(page))
        .collect();
    none(&loose, "a test reads the page and compares its tables with the constants");
}

/// What a heading is called in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let plain = heading.trim().trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Text of a document without its code blocks and code spans.
fn prose(document: &str) -> String {
    let mut text = String::new();
    let mut block = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if !block {
            for (place, part) in line.split('`').enumerate() {
                text.push_str(if place % 2 == 0 { part } else { "code" });
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for path in files(&root(), &[".md"]) {
        let text = prose(&read(&path));
        for (number, line) in text.lines().enumerate() {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                if target.starts_with("http://") || target.starts_with("https://") || target.starts_with("mailto:")
                {
                    continue;
                }
                followed += 1;
                let (file, fragment) = match target.split_once('#') {
                    Some((file, fragment)) => (file, Some(fragment)),
                    None => (target, None),
                };
                let folder = path.parent().expect("a document lies in a folder");
                let aim = if file.is_empty() { path.clone() } else { folder.join(file) };
                let found = match fragment {
                    _ if !aim.exists() => false,
                    Some(fragment) if file.is_empty() || file.ends_with(".md") => {
                        let document = read(&aim);
                        document.lines().any(|line| line.starts_with('#') && anchor(line) == fragment)
                    }
                    _ => true,
                };
                if !found {
                    broken.push(format!("{}:{}: {target}", shown(&path), number + 1));
                }
            }
        }
    }
    assert!(followed > 5, "links were found");
    none(&broken, "a link leads to a file or heading that exists");
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    assert_eq!(anchor("## The walk of one bid"), "the-walk-of-one-bid");
    assert_eq!(anchor("# `log inspect|verify`: codes"), "log-inspectverify-codes");
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = read(&root().join("README.md"));
    assert!(readme.lines().count() <= 120, "the README has at most 120 lines");
    let block = readme.split("```").nth(1).expect("the README has a code block");
    let commands: Vec<_> = block.lines().skip(1).map(|line| line.split('#').next().unwrap_or("").trim()).collect();
    assert_eq!(commands[..2], ["cargo run --release -- demo", "cargo xtask test"]);
}

#[test]
fn what_a_newcomer_looks_for_is_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "deny.toml",
        "rust-toolchain.toml",
        ".cargo/config.toml",
        ".ci/run",
        ".github/workflows/ci.yml",
        "bench/RESULTS.md",
        "deploy/README.md",
        "engine/docs/readings.md",
    ] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
    assert!(read(&root().join("LICENSE")).contains("Apache License"));
    let version = &read(&root().join("Cargo.toml")).parse::<toml::Table>().expect("Cargo.toml is TOML");
    let version = version["workspace"]["package"]["version"].as_str().expect("the workspace has a version");
    let changelog = read(&root().join("CHANGELOG.md"));
    let named = changelog.contains(&format!("## {version}")) || changelog.contains("## Unreleased");
    assert!(named, "the changelog tells about {version}");
    assert!(read(&root().join(".github/workflows/ci.yml")).contains(".ci/run"), "one script, here and there");
}

#[test]
fn nothing_names_the_place_it_was_written_in() {
    let marks = [["../sha", "red"], ["/wo", "rk/"], ["farm-", "studio"], ["sub", "agent"]];
    let mut found = Vec::new();
    let endings = [".rs", ".ts", ".md", ".toml", ".sh", ".yml", ".service", ".html", "run"];
    for path in files(&root(), &endings) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|[a, b]| line.contains(&format!("{a}{b}"))) {
                found.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    none(&found, "the project stands by itself");
}

#[test]
fn nothing_that_ships_has_bugs_to_be_put_back_or_commands_that_panic() {
    let forbidden = ["mutants", "failpoints"];
    for package in ["engine", "persistence", "api", "bench", "bench/simulator"] {
        let manifest = manifest(package);
        let defaults =
            manifest.get("features").and_then(|features| features.get("default")).map(toml::Value::to_string);
        assert!(
            defaults.is_none_or(|text| !forbidden.iter().any(|word| text.contains(word))),
            "{package}: default"
        );
        for table in ["dependencies", "build-dependencies"] {
            let table = manifest.get(table).and_then(toml::Value::as_table);
            for (name, value) in table.into_iter().flatten() {
                let on = forbidden.iter().find(|word| value.to_string().contains(**word));
                assert!(on.is_none(), "{package} switches {on:?} of {name} on; only dev-dependencies may");
            }
        }
    }
}

#[test]
fn the_program_that_ships_knows_no_failpoints() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // As a release is built: without what tests need.
    let arguments =
        ["tree", "--locked", "-p", "api", "--edges", "normal,build", "--prefix", "none", "--format", "{p} [{f}]"];
    let tree = std::process::Command::new(cargo).current_dir(root()).args(arguments).output().expect("cargo runs");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    for package in ["api", "persistence", "engine"] {
        let line = tree.lines().find(|line| line.starts_with(&format!("{package} v")));
        let line = line.unwrap_or_else(|| panic!("{package} is not in {tree}"));
        assert!(!line.contains("failpoints") && !line.contains("mutants"), "{line}");
    }
    // What the environment says about faults is read in one file, and that file is compiled only with the feature.
    let library = read(&root().join("persistence/src/lib.rs"));
    assert!(library.contains("#[cfg(feature = \"failpoints\")]\nmod failpoints;"), "the module needs the feature");
    let mark = format!("RT_{}_", "TEST");
    let sources = ["engine/src", "persistence/src", "api/src"].map(|folder| files(&root().join(folder), &[".rs"]));
    let found: Vec<String> = sources
        .iter()
        .flatten()
        .filter(|path| read(path).contains(&mark) && !path.ends_with("persistence/src/failpoints.rs"))
        .map(|path| shown(path))
        .collect();
    none(&found, "only the failpoints read such a variable");
}
