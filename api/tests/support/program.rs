//! The program's commands, run on the folders of a test.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with these arguments on the data and keys in `dir`.
pub fn program(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    command.args(arguments);
    command.arg("--data").arg(dir.join("data")).arg("--keys").arg(dir.join("keys"));
    command.output().expect("it runs")
}

/// All that it said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}
