//! What a measurement was made on and of: processor, kernel, disk, scheduling, commit. Reads, never changes.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Where and of what a measurement was made.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's own name.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Kernel release and its timer and preemption, where told.
    pub kernel: String,
    /// The file system of the folder that was measured in.
    pub file_system: String,
    /// Scheduling class of this process.
    pub scheduling: String,
    /// The commit, `+` when the work tree differs from it.
    pub commit: String,
    /// The compiler, and whether it optimised.
    pub build: String,
    /// The day, UTC.
    pub day: String,
}

impl Machine {
    /// This machine, for measurements in `folder`.
    pub fn here(folder: &Path) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            processor: field(&cpu, "model name").unwrap_or_else(|| "unknown".into()),
            processors,
            memory_gib: kib.unwrap_or(0).div_ceil(1 << 20),
            kernel: told("uname", &["-rv"]),
            file_system: told("stat", &["-f", "-c", "%T", &folder.to_string_lossy()]),
            scheduling: scheduling(),
            commit: commit(),
            build: build(),
            day: told("date", &["-u", "+%Y-%m-%d"]),
        }
    }

    /// The facts as rows of a Markdown table.
    pub fn table(&self) -> String {
        let rows = [
            ("day (UTC)", self.day.clone()),
            ("commit", format!("`{}`", self.commit)),
            ("processor", format!("{}, {} usable", self.processor, self.processors)),
            ("memory", format!("{} GiB", self.memory_gib)),
            ("kernel", self.kernel.clone()),
            ("file system", self.file_system.clone()),
            ("scheduling", self.scheduling.clone()),
            ("build", self.build.clone()),
        ];
        let mut text = "| | |\n|---|---|\n".to_owned();
        for (name, value) in rows {
            text.push_str(&format!("| {name} | {value} |\n"));
        }
        text
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}

fn commit() -> String {
    let head = told("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = told("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changed == "unknown" { head } else { format!("{head}+") }
}

fn build() -> String {
    let kind = if cfg!(debug_assertions) { "debug (its times mean nothing)" } else { "release, thin LTO" };
    format!("{}, {kind}", told("rustc", &["--version"]))
}

/// The class in `/proc/self/stat`, field 41; the command's name before it may hold spaces, so count behind it.
fn scheduling() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let (nice, policy) = (fields.get(16).unwrap_or(&"?"), fields.get(38).unwrap_or(&"?"));
    match *policy {
        "0" => format!("unprioritised (SCHED_OTHER, nice {nice})"),
        "1" => "SCHED_FIFO".into(),
        "2" => "SCHED_RR".into(),
        other => format!("class {other}, nice {nice}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_tells_about_itself() {
        let machine = super::Machine::here(std::path::Path::new("/"));
        assert!(machine.processors >= 1 && machine.memory_gib >= 1);
        assert!(machine.scheduling.contains("SCHED_") || machine.scheduling.starts_with("class"));
        assert!(machine.table().contains("| commit |"));
    }
}
