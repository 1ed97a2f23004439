//! `storm blobstore`: what Nimbus keeps of topologies.
//!
//! Not here: uploading (`submit`). Invariant: what `cat` gives has the hash that was asked for, or `cat` fails.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use nimbus_api::submission::Blob;
use tempfile::NamedTempFile;
use worker_api::ids::BlobHash;

use crate::arguments::{ConfigFlags, ask};
use crate::blob_hash::of_file;
use crate::exit::{Exit, Refusal};
use crate::output::{data, json};

const LIST_EXAMPLE: &str = "\
Example:
  storm blobstore list";

const CAT_EXAMPLE: &str = "\
Example:
  storm blobstore cat 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae -f word-count";

#[derive(clap::Args)]
pub(crate) struct Blobstore {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the blobs: hash, bytes, which topologies use them and as what
    #[command(after_help = LIST_EXAMPLE)]
    List(List),
    /// Print a blob, or write it to a file
    #[command(after_help = CAT_EXAMPLE)]
    Cat(Cat),
}

#[derive(clap::Args)]
struct List {
    /// Only these
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(clap::Args)]
struct Cat {
    /// The blob's hash
    key: String,
    /// Write it to this file
    #[arg(short, long, alias = "FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlags,
}

impl Blobstore {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        match self.verb {
            Verb::List(verb) => verb.run(),
            Verb::Cat(verb) => verb.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let mut blobs = ask(async { Ok(client.blobs().await?) })?;
        if let Some(missing) = self.keys.iter().find(|key| !blobs.iter().any(|blob| blob.hash.as_str() == *key)) {
            return Err(Refusal::new(Exit::Failed, format!("there is no blob `{}`", missing.escape_default())));
        }
        if !self.keys.is_empty() {
            blobs.retain(|blob| self.keys.iter().any(|key| key == blob.hash.as_str()));
        }
        if self.json {
            json(&blobs)?;
        } else {
            data(&blobs.iter().map(line).collect::<String>())?;
        }
        Ok(Exit::Done)
    }
}

fn line(blob: &Blob) -> String {
    let users = blob.used_by.iter().map(|(topology, uses)| format!("{topology} ({})", uses.join(", ")));
    let users = users.collect::<Vec<_>>().join(", ");
    let users = if users.is_empty() { "unused".to_owned() } else { users };
    let state = if blob.complete { "" } else { "  incomplete" };
    format!("{}  {:>12}{state}  {users}\n", blob.hash, blob.bytes)
}

impl Cat {
    fn run(self) -> Result<Exit, Refusal> {
        let client = self.config.client()?;
        let hash = BlobHash::try_from(self.key).map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
        let folder = match &self.file {
            Some(file) => file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or_else(|| Path::new("."))
                .to_owned(),
            None => std::env::temp_dir(),
        };
        let cannot = |error: std::io::Error| {
            Refusal::new(Exit::Failed, format!("cannot write the blob below {}: {error}", folder.display()))
        };
        let mut kept = NamedTempFile::new_in(&folder).map_err(cannot)?;
        let mut to = tokio::fs::File::from_std(kept.reopen().map_err(cannot)?);
        ask(async {
            client.download(&hash, 0, &mut to).await?;
            tokio::io::AsyncWriteExt::flush(&mut to).await.map_err(cannot)
        })?;
        if of_file(kept.path()).map_err(cannot)?.0 != hash {
            return Err(Refusal::new(Exit::Failed, format!("what came is not the blob {hash}: try again")));
        }
        match &self.file {
            Some(file) => {
                kept.persist(file).map_err(|error| cannot(error.error))?;
            }
            None => {
                kept.rewind().map_err(cannot)?;
                let mut out = std::io::stdout().lock();
                let copied = std::io::copy(&mut kept.as_file_mut().by_ref(), &mut out);
                if let Err(error) = copied.map(drop)
                    && error.kind() != std::io::ErrorKind::BrokenPipe
                {
                    return Err(Refusal::new(Exit::Failed, format!("cannot write to standard output: {error}")));
                }
            }
        }
        Ok(Exit::Done)
    }
}
