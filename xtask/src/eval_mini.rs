//! `cargo xtask eval-mini`: scores a trained model through the API of clusters of 1, 2 and 3 ranks.

use std::process::Command;

use crate::command::{self, root};
use crate::python;

/// Runs the evaluation with these further arguments; without `--model FOLDER` of the model in the box.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let conclave = command::conclave()?;
    let folder = python::environment()?;
    let mut evaluation = Command::new(folder.join("bin/python"));
    evaluation
        // Nothing is to be left in the source tree.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root().join("models/mini/recipe/served.py"))
        .arg("--conclave")
        .arg(conclave)
        .arg("--proto")
        .arg(root().join("proto"))
        // A later --model is taken in its place.
        .arg("--model")
        .arg(root().join("models/mini"))
        .args(arguments);
    command::run(evaluation)
}
