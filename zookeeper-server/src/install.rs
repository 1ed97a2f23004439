//! Getting ZooKeeper's jars, once for each target folder.
//!
//! Not here: running them. Invariant: the folder of the jars is complete if it is there; who comes while another installs waits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Version of ZooKeeper.
pub const VERSION: &str = "3.9.5";

/// Maven's plug-in that copies an artifact with all it needs.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// What the server needs at run time: its metrics need the second and third, its log the last.
const POM: &str = r#"<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>throw-away</groupId>
  <artifactId>zookeeper</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>VERSION</version></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version></dependency>
    <dependency><groupId>ch.qos.logback</groupId><artifactId>logback-classic</artifactId><version>1.3.15</version></dependency>
  </dependencies>
</project>
"#;

/// The folder with ZooKeeper's jars, which are fetched with Maven if they are not there.
pub(crate) fn jars() -> Result<PathBuf> {
    is_there("java", "-version")?;
    let target = target_folder()?;
    let jars = target.join(format!("zookeeper-{VERSION}"));
    let lock =
        File::create(target.join(format!("zookeeper-{VERSION}.lock"))).context("making the installation's lock")?;
    lock.lock().context("waiting for another installation of ZooKeeper")?;
    if !jars.is_dir() {
        is_there("mvn", "--version")?;
        fetch(&target, &jars)?;
    }
    Ok(jars)
}

fn is_there(program: &str, question: &str) -> Result<()> {
    let mut asked = Command::new(program);
    asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match asked.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{program} {question}` ended with {status}; {INSTALL}"),
        Err(error) => bail!("`{program}` cannot be run ({error}); {INSTALL}"),
    }
}

const INSTALL: &str =
    "ZooKeeper for tests needs Java and Maven: install openjdk-17-jre-headless and maven (apt-get install)";

/// Cargo's target folder: this executable was built into TARGET/PROFILE, or into TARGET/PROFILE/deps if it is a test.
fn target_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("looking where this executable lies")?;
    let folder = executable.parent().filter(|folder| !folder.ends_with("deps"));
    let profile = folder.or_else(|| executable.ancestors().nth(2));
    let target = profile.and_then(Path::parent);
    Ok(target.with_context(|| format!("{} lies in no target folder of cargo", executable.display()))?.to_owned())
}

fn fetch(target: &Path, jars: &Path) -> Result<()> {
    let part = target.join(format!("zookeeper-{VERSION}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("removing {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
    let pom = part.join("pom.xml");
    fs::write(&pom, POM.replace("VERSION", VERSION)).with_context(|| format!("writing {}", pom.display()))?;
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&pom)
        .args([COPY, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", part.display()))
        .stdin(Stdio::null())
        .output()
        .context("starting Maven")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = said.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    ensure!(output.status.success(), "Maven could not fetch ZooKeeper {VERSION}: {error}");
    fs::rename(&part, jars).with_context(|| format!("naming the folder {}", jars.display()))
}
