//! One module for each word of the command line, or for a pair of them that differ in a word.
//!
//! Not here: flags of several words (`arguments`), what the daemons share (`daemons`).

pub(crate) mod activate;
pub(crate) mod admin;
pub(crate) mod blobstore;
pub(crate) mod completions;
pub(crate) mod confvalue;
pub(crate) mod deactivate;
pub(crate) mod get_errors;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod nimbus;
pub(crate) mod rebalance;
pub(crate) mod standalone;
pub(crate) mod submit;
pub(crate) mod supervisor;
pub(crate) mod ui;
pub(crate) mod version;
