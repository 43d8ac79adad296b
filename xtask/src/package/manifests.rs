//! The manifests for Kubernetes, held against its published schemas.

use std::process::Command;

use anyhow::Result;

use crate::command::run_logged;
use crate::host::{self, PYTHON};
use crate::progress::Step;
use crate::project;

/// The package, which has the schemas in it; its version is that of Kubernetes.
const VALIDATOR: (&str, &str) = ("kubernetes-validate", "1.37.0");

/// Checks every manifest in `deploy/kubernetes`: unknown fields count as faults.
///
/// # Errors
/// When one has a fault, with the validator's words.
pub(crate) fn check() -> Result<()> {
    let modules = host::python_path(VALIDATOR.0, VALIDATOR.1)?;
    let step = Step::new("Check: manifests");
    let mut validate = Command::new("sh");
    validate.current_dir(project::root().join("deploy/kubernetes")).env("PYTHONPATH", &modules.path);
    validate.args(["-c", "exec \"$@\" *.yaml", "sh", PYTHON, "-m", "kubernetes_validate", "--strict"]);
    run_logged(&mut validate, &step, &project::log("manifests"))?;
    step.done();
    Ok(())
}
