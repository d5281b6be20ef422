//! `mainspring cluster secret`: makes the file by which nodes verify each other; and reads it for `serve`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::failure::{Code, Failure, words};
use super::output::{Output, Stop};
use crate::node::{ClusterSecret, SecretError};

/// How a secret begins, for one that was given in the place of a file.
const PREFIX: &str = "mainspring-cluster-secret";

/// Flags of `cluster secret`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to make
    #[arg(long, value_name = "FILE", default_value = "cluster.secret")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Made<'a> {
    file: &'a Path,
    fingerprint: String,
}

/// Makes a secret.
pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let what = || format!("cannot make {}", args.out.display());
    let secret = ClusterSecret::generate().map_err(|error| {
        Failure::new(Code::Failed, what(), words(&error), "the system gives no random numbers")
    })?;
    secret.write(&args.out).map_err(|error| match &error {
        SecretError::Exists => Failure::new(
            Code::Failed,
            what(),
            error,
            "choose another name with --out, or move it away",
        ),
        SecretError::File(_)
        | SecretError::Exposed(_)
        | SecretError::Line { .. }
        | SecretError::Count(_) => {
            Failure::new(Code::Failed, what(), said(&error), "choose another place with --out")
        }
    })?;
    let mut output = Output::new();
    output.json(&Made { file: &args.out, fingerprint: secret.fingerprint() })?;
    output.flush()
}

/// Reads the secrets that `serve` is to use.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Vec<ClusterSecret>, Failure> {
    if paths.iter().any(|path| path.to_string_lossy().starts_with(PREFIX)) {
        return Err(Failure::usage(
            "cannot use --cluster-secret",
            "it is a secret and not the name of a file",
            "put it into a file that only its owner may read, and name that",
        ));
    }
    ClusterSecret::load(paths).map_err(|(path, error)| {
        let what = format!("cannot use the cluster secret {}", path.display());
        match &error {
            SecretError::File(source) if source.kind() == io::ErrorKind::NotFound => Failure::new(
                Code::NotFound,
                what,
                words(source),
                "make one with mainspring cluster secret, and copy it to every node",
            ),
            SecretError::Exposed(_) => Failure::new(
                Code::NotAllowed,
                what,
                &error,
                format!("say chmod 600 {}; make a new one if others have read it", path.display()),
            ),
            SecretError::Count(_) => {
                Failure::usage(what, &error, "leave the one that is in use, and the one to come")
            }
            SecretError::File(_) | SecretError::Exists | SecretError::Line { .. } => Failure::usage(
                what,
                said(&error),
                "copy it again from a node that has it, or make one with mainspring cluster secret",
            ),
        }
    })
}

fn said(error: &SecretError) -> String {
    if let SecretError::File(source) = error { words(source) } else { error.to_string() }
}
