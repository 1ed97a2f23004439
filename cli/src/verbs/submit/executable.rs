//! A topology's executable: whether it can run here, and what it says of itself.
//!
//! Not here: what its graph means (Nimbus checks it). Invariant: it is started only if its header says that it is for this machine,
//! in a temporary folder, with a limit on its time and its output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nimbus_api::submission::SUBMISSION_BYTES;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use worker_api::check_format;
use worker_api::describe::{Described, platform};
use worker_api::ids::FileName;
use worker_api::launch::LAUNCH_FORMAT;

use crate::exit::{Exit, Refusal};
use crate::output::say;

/// How long it may take to describe itself; a graph is built in milliseconds.
const DESCRIBE: Duration = Duration::from_secs(20);
/// Bytes of the header of an ELF file of 64 bits.
const HEADER_BYTES: u64 = 64;
/// Bytes of what it says on standard error that are kept.
const STDERR_BYTES: u64 = 64 << 10;

/// An executable for this machine.
pub(crate) struct Executable {
    /// As the user wrote it.
    named: PathBuf,
    path: PathBuf,
}

/// What it is asked with.
pub(crate) struct Question<'a> {
    /// Its `-c KEY=VALUE`.
    pub(crate) assignments: Vec<String>,
    /// Its files of `--config`, absolute.
    pub(crate) config: Vec<PathBuf>,
    /// What lies in its folder.
    pub(crate) files: &'a BTreeMap<FileName, PathBuf>,
    /// Its author's arguments.
    pub(crate) arguments: &'a [String],
}

impl Executable {
    /// Looks at it, without starting it.
    ///
    /// # Errors
    /// If it is missing, may not be executed, or is not for this machine.
    pub(crate) fn check(named: &Path) -> Result<Self, Refusal> {
        let shown = named.display();
        let no_input = |why: String| Refusal::new(Exit::NoInput, why);
        let path = std::fs::canonicalize(named)
            .map_err(|error| no_input(format!("cannot read the executable `{shown}`: {error}; check the path")))?;
        let meta =
            path.metadata().map_err(|error| no_input(format!("cannot read the executable `{shown}`: {error}")))?;
        if !meta.is_file() {
            return Err(no_input(format!("`{shown}` is not a file; name the executable that `cargo build` made")));
        }
        let cannot_read = |error: io::Error| no_input(format!("cannot read the executable `{shown}`: {error}"));
        let mut file = File::open(&path).map_err(cannot_read)?;
        let mut header = Vec::new();
        file.by_ref().take(HEADER_BYTES).read_to_end(&mut header).map_err(cannot_read)?;
        platform_of(&header).map_err(|why| Refusal::new(Exit::Unfit, format!("`{shown}` {why}")))?;
        let (found, expected) = (meta.len(), least_bytes(&header, &mut file).map_err(cannot_read)?);
        if found < expected {
            let why = format!(
                "`{shown}` is cut short: its headers tell of at least {expected} bytes, and it has {found}; \
                 copy it again, or build it again"
            );
            return Err(Refusal::new(Exit::Unfit, why));
        }
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(no_input(format!("`{shown}` may not be executed; allow it by `chmod +x {shown}`")));
        }
        Ok(Executable { named: named.to_owned(), path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A start of it in a role.
    pub(crate) fn command(&self, role: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(role);
        command
    }

    /// It could not be started.
    pub(crate) fn not_started(&self, error: &io::Error) -> Refusal {
        Refusal::new(Exit::Unfit, format!("cannot start `{}`: {error}", self.named.display()))
    }

    /// Asks it for its graph.
    ///
    /// # Errors
    /// If it does not give one of a version that this one understands.
    pub(crate) async fn describe(&self, question: &Question<'_>) -> Result<Described, Refusal> {
        let shown = self.named.display();
        let failed = |error: io::Error| {
            Refusal::new(Exit::Failed, format!("cannot make a folder for `{shown} describe` to run in: {error}"))
        };
        // Goes away with all in it, whatever comes.
        let folder = tempfile::Builder::new().prefix("storm-describe-").tempdir().map_err(failed)?;
        for (name, path) in question.files {
            symlink(path, folder.path().join(name.as_str())).map_err(failed)?;
        }
        let mut command = self.command("describe");
        for file in &question.config {
            command.arg("--config").arg(file);
        }
        for assignment in &question.assignments {
            command.arg("-c").arg(assignment);
        }
        command.args(question.arguments).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = async {
            let (stdout, stderr) =
                tokio::join!(bounded(stdout, SUBMISSION_BYTES as u64 + 1), bounded(stderr, STDERR_BYTES));
            (child.wait().await, stdout, stderr)
        };
        let Ok((status, stdout, stderr)) = tokio::time::timeout(DESCRIBE, said).await else {
            let why = format!(
                "`{shown} describe` did not end within {} s; building a topology must only wire its components, not run them",
                DESCRIBE.as_secs()
            );
            return Err(Refusal::new(Exit::Unfit, why));
        };
        let status = status.map_err(|error| self.not_started(&error))?;
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        if !status.success() {
            return Err(self.did_not_describe(status.code(), &status.to_string(), &stderr));
        }
        if stdout.len() > SUBMISSION_BYTES {
            let why =
                format!("`{shown} describe` printed more than {} MiB; is it a topology's?", SUBMISSION_BYTES >> 20);
            return Err(Refusal::new(Exit::Unfit, why));
        }
        let described = self.understood(&stdout)?;
        if !stderr.is_empty() {
            say(&stderr);
        }
        Ok(described)
    }

    fn did_not_describe(&self, code: Option<i32>, status: &str, stderr: &str) -> Refusal {
        let shown = self.named.display();
        let exit = match code {
            Some(64) => Exit::Usage,
            Some(66) => Exit::NoInput,
            _ => Exit::Unfit,
        };
        let said = if stderr.is_empty() { "without a word".to_owned() } else { format!("and said:\n{stderr}") };
        let hint = match code {
            // Those that `storm::run` ends with.
            Some(1 | 64 | 66) => "",
            _ => "\nIs it a topology's executable? Its `main` must call `storm::run`",
        };
        Refusal::new(
            exit,
            format!("`{shown} describe`, which is to print the topology's graph, ended with {status} {said}{hint}"),
        )
    }

    /// Reads what it printed: first the formats, so that another version is told as such.
    fn understood(&self, stdout: &[u8]) -> Result<Described, Refusal> {
        #[derive(Deserialize)]
        struct Formats {
            format: u32,
            build: Option<BuildFormat>,
        }
        #[derive(Deserialize)]
        struct BuildFormat {
            launch_format: u32,
        }
        let shown = self.named.display();
        let unfit = |why: String| Refusal::new(Exit::Unfit, why);
        let foreign = |found: String| {
            unfit(format!(
                "`{shown}` is not a topology's executable: its `main` must call `storm::run`, and `{shown} describe` printed {found}"
            ))
        };
        let formats: Formats = match serde_json::from_slice(stdout) {
            Ok(formats) => formats,
            Err(_) if stdout.trim_ascii().is_empty() => return Err(foreign("nothing".to_owned())),
            Err(error) => return Err(foreign(format!("no graph ({error})"))),
        };
        let same = check_format("graph", topology_api::topology::GRAPH_FORMAT, formats.format);
        same.map_err(|error| unfit(format!("`{shown}`: {error}")))?;
        let Some(build) = formats.build else {
            return Err(unfit(format!(
                "`{shown}` was built with a version that runs in one process only; build it again with version {}",
                env!("CARGO_PKG_VERSION")
            )));
        };
        check_format("launch file", LAUNCH_FORMAT, build.launch_format)
            .map_err(|error| unfit(format!("`{shown}`: {error}")))?;
        serde_json::from_slice(stdout).map_err(|error| foreign(format!("a graph that cannot be understood ({error})")))
    }
}

async fn bounded(from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let mut from = from.take(most);
        // What was read until then says enough.
        let _ = from.read_to_end(&mut bytes).await;
        // Kept open and empty, so that it is not killed by writing on.
        let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
    }
    bytes
}

/// Whether the first bytes of a file are those of an executable for this machine; else what it is.
fn platform_of(header: &[u8]) -> Result<(), String> {
    let here = platform();
    match header {
        [0x7f, b'E', b'L', b'F', class, order, ..] if header.len() >= 20 => {
            let machine = [header[18], header[19]];
            let machine = if *order == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
            let bits = if *class == 1 { 32 } else { 64 };
            let found = match machine {
                3 => "x86".to_owned(),
                40 => "arm".to_owned(),
                62 => "x86_64".to_owned(),
                183 => "aarch64".to_owned(),
                243 => format!("riscv{bits}"),
                other => format!("machine {other}"),
            };
            let own_bits = usize::BITS;
            if found == std::env::consts::ARCH && bits == own_bits {
                return Ok(());
            }
            Err(format!("is built for {found} ({bits} bits), and this machine is {here}; build it for this one"))
        }
        [b'P', b'K', 3, 4, ..] => {
            Err("is a JAR or another archive; a topology is the executable that `cargo build` makes".to_owned())
        }
        [b'#', b'!', ..] => Err("is a script; a topology is the executable that `cargo build` makes".to_owned()),
        [b'M', b'Z', ..] => Err(format!("is built for Windows, and this machine is {here}; build it for this one")),
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            Err(format!("is built for another operating system, and this machine is {here}; build it for this one"))
        }
        [] => Err("is empty; a topology is the executable that `cargo build` makes".to_owned()),
        _ => Err("is no executable (it has no ELF header); a topology is what `cargo build` makes".to_owned()),
    }
}

/// How long an executable must be to have all that its headers tell of: their tables, and what is loaded of it.
///
/// # Errors
/// If it cannot be read.
fn least_bytes(header: &[u8], file: &mut (impl Read + Seek)) -> io::Result<u64> {
    // Those of 32 bits are laid out otherwise; such a machine finds out by starting it.
    if header.get(4) != Some(&2) {
        return Ok(0);
    }
    if (header.len() as u64) < HEADER_BYTES {
        return Ok(HEADER_BYTES);
    }
    let is_big_endian = header[5] == 2;
    let number = |bytes: &[u8]| {
        let digit = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if is_big_endian { bytes.iter().fold(0, digit) } else { bytes.iter().rev().fold(0, digit) }
    };
    let (programs_at, sections_at) = (number(&header[32..40]), number(&header[40..48]));
    let (program_bytes, programs) = (number(&header[54..56]), number(&header[56..58]));
    let (section_bytes, sections) = (number(&header[58..60]), number(&header[60..62]));
    let programs_end = programs_at.saturating_add(program_bytes * programs);
    let sections_end = sections_at.saturating_add(section_bytes * sections);
    let mut least = HEADER_BYTES.max(programs_end).max(sections_end);
    let mut table = Vec::new();
    file.seek(SeekFrom::Start(programs_at))?;
    file.take(program_bytes * programs).read_to_end(&mut table)?;
    for program in table.chunks_exact(usize::try_from(program_bytes).unwrap_or(0).max(40)) {
        let (offset, bytes) = (number(&program[8..16]), number(&program[32..40]));
        least = least.max(offset.saturating_add(bytes));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut header = vec![0x7f, b'E', b'L', b'F', class, order];
        header.resize(18, 0);
        header.extend(machine);
        header
    }

    #[test]
    fn only_this_machines_executables_are_started() {
        let own = if cfg!(target_arch = "x86_64") { [62, 0] } else { [183, 0] };
        assert_eq!(platform_of(&elf(2, 1, own)), Ok(()));
        let here = platform();
        for (header, expected) in [
            (
                elf(1, 1, [3, 0]),
                format!("is built for x86 (32 bits), and this machine is {here}; build it for this one"),
            ),
            (
                elf(2, 1, [243, 0]),
                format!("is built for riscv64 (64 bits), and this machine is {here}; build it for this one"),
            ),
            (
                elf(2, 2, [0, 22]),
                format!("is built for machine 22 (64 bits), and this machine is {here}; build it for this one"),
            ),
            (
                b"PK\x03\x04rest".to_vec(),
                "is a JAR or another archive; a topology is the executable that `cargo build` makes".to_owned(),
            ),
            (b"#!/bin/sh\n".to_vec(), "is a script; a topology is the executable that `cargo build` makes".to_owned()),
            (b"MZ".to_vec(), format!("is built for Windows, and this machine is {here}; build it for this one")),
            (Vec::new(), "is empty; a topology is the executable that `cargo build` makes".to_owned()),
            (
                elf(2, 1, own)[..19].to_vec(),
                "is no executable (it has no ELF header); a topology is what `cargo build` makes".to_owned(),
            ),
        ] {
            assert_eq!(platform_of(&header), Err(expected));
        }
    }
}
