//! `storm version`: what this executable is.

use serde::Serialize;
use worker_api::describe::platform;
use worker_api::launch::LAUNCH_FORMAT;

use crate::exit::{Exit, Refusal};
use crate::output::{data, json};

const EXAMPLE: &str = "\
Example:
  storm version";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Version {
    /// Print it as JSON, with the formats that must be the same between topologies, tools and daemons
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Known {
    version: &'static str,
    platform: String,
    launch_format: u32,
    api_format: u32,
}

impl Version {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        let version = env!("CARGO_PKG_VERSION");
        let known =
            Known { version, platform: platform(), launch_format: LAUNCH_FORMAT, api_format: nimbus_api::API_FORMAT };
        if self.json {
            json(&known)?
        } else {
            data(&format!("Storm {version}\nPlatform {}\n", known.platform))?
        }
        Ok(Exit::Done)
    }
}
