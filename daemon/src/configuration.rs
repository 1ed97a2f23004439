//! The configuration of daemons and tools: defaults < `storm.yaml` < environment < `-c`.
//!
//! Not here: which keys there are and what they take (`topology_api::config`), what is made of them (`settings`).
//! Invariant: what is wrong is told as a whole, before anything is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use topology_api::config::{Config, ConfigErrors, known};

/// The file's name.
const FILE: &str = "storm.yaml";

/// What a process finds around itself: where configuration may lie.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `$STORM_CONF_DIR`.
    pub conf_dir: Option<PathBuf>,
    /// `$STORM_HOME`.
    pub storm_home: Option<PathBuf>,
    /// `$HOME`.
    pub user_home: Option<PathBuf>,
    /// The executable.
    pub executable: PathBuf,
    /// The working folder.
    pub working_folder: PathBuf,
    /// The environment, as far as it is text.
    pub variables: BTreeMap<String, String>,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// If the executable or the working folder is gone.
    pub fn of_process() -> io::Result<Self> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Ok(Surroundings {
            conf_dir: folder("STORM_CONF_DIR"),
            storm_home: folder("STORM_HOME"),
            user_home: folder("HOME"),
            executable: std::env::current_exe()?,
            working_folder: std::env::current_dir()?,
            variables: std::env::vars_os().filter_map(text).collect(),
        })
    }

    /// The Storm home: `$STORM_HOME`; else the folder above `bin` if the executable lies in a `bin` with a `conf` beside it;
    /// else the working folder.
    pub fn home(&self) -> PathBuf {
        self.storm_home.clone().or_else(|| self.installation()).unwrap_or_else(|| self.working_folder.clone())
    }

    fn installation(&self) -> Option<PathBuf> {
        let bin = self.executable.parent().filter(|folder| folder.ends_with("bin"))?;
        bin.parent().filter(|home| home.join("conf").is_dir()).map(Path::to_owned)
    }

    /// Where `storm.yaml` is looked for, in this order.
    pub fn places(&self) -> Vec<PathBuf> {
        let folders = [
            self.conf_dir.clone(),
            self.user_home.as_ref().map(|home| home.join(".storm")),
            self.storm_home.clone().or_else(|| self.installation()).map(|home| home.join("conf")),
            self.executable.parent().map(Path::to_owned),
        ];
        folders.into_iter().flatten().map(|folder| folder.join(FILE)).collect()
    }
}

/// What the command line says of configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Read in place of `storm.yaml`.
    pub file: Option<PathBuf>,
    /// Read over `storm.yaml`: a topology's own files.
    pub over: Vec<PathBuf>,
    /// `-c KEY=VALUE`, in their order.
    pub assignments: Vec<String>,
}

/// The configuration of this process.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What holds, checked.
    pub config: Config,
    /// Which `storm.yaml` was read, if any.
    pub file: Option<PathBuf>,
    /// Relative folders lie below it.
    pub home: PathBuf,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file cannot be read.
    #[error("cannot read the configuration file `{}`: {error}; check its path and who may read it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// What is written is wrong: one mistake on a line.
    #[error(transparent)]
    Mistakes(#[from] ConfigErrors),
    /// A value that its key takes, but that makes no sense here.
    #[error("{0}")]
    Setting(String),
}

impl Configuration {
    /// Reads all layers, and checks them.
    ///
    /// # Errors
    /// If a file cannot be read, or something in it is wrong.
    pub fn read(surroundings: &Surroundings, flags: &Flags) -> Result<Self, ConfigurationError> {
        let mut config = Config::of_daemons();
        let mut file = None;
        let places = match &flags.file {
            Some(named) => vec![named.clone()],
            None => surroundings.places(),
        };
        for place in places {
            match std::fs::read_to_string(&place) {
                Ok(text) => {
                    config.add_yaml(&place.display().to_string(), &text);
                    file = Some(place);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && flags.file.is_none() => {}
                Err(error) => return Err(ConfigurationError::File { path: place, error }),
            }
        }
        for place in &flags.over {
            let text = std::fs::read_to_string(place)
                .map_err(|error| ConfigurationError::File { path: place.clone(), error })?;
            config.add_yaml(&place.display().to_string(), &text);
        }
        config.add_environment(|name| surroundings.variables.get(name).cloned());
        for assignment in &flags.assignments {
            config.add_flag(assignment);
        }
        config.check()?;
        Ok(Configuration { config, file, home: surroundings.home() })
    }

    /// The value of a key as an operator is shown it: a secret's is hidden.
    pub fn shown(&self, key: &str) -> Option<Value> {
        let value = self.config.get(key)?;
        let secret = known(key).is_some_and(|info| info.is_secret());
        Some(if secret { Value::from("*****") } else { value.clone() })
    }

    /// All that has a value, secrets among it: what Nimbus, Supervisor and UI are started with.
    pub fn values(&self) -> BTreeMap<String, Value> {
        self.config.iter().map(|(key, value, _)| (key.to_owned(), value.clone())).collect()
    }
}
