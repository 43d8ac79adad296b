//! Programs of other packages, for tests: cargo builds none of them for a test. Included by path.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The program of the package `package`, made anew with the profile of `own`, a program that cargo built for this test.
pub fn program(package: &str, own: &str) -> PathBuf {
    build(&["--package", package], own).join(package)
}

/// An example of the package `package`, likewise.
pub fn example(package: &str, name: &str, own: &str) -> PathBuf {
    build(&["--package", package, "--example", name], own).join("examples").join(name)
}

fn build(what: &[&str], own: &str) -> PathBuf {
    let folder = Path::new(own).parent().unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--profile", profile]).args(what).arg("--target-dir");
    build.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().unwrap().success(), "{what:?} doesn't build");
    folder.to_owned()
}
