//! The example owners of GPU memory: what they call, held against stand-ins of the drivers' libraries.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::real::{Daemon, example};

/// Builds a stand-in under the name that the example looks for.
fn stand_in(source: &str, library: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_ins").join(source);
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=cdylib", "-o"]).arg(folder.path().join(library)).arg(source);
    assert!(rustc.status().unwrap().success(), "the stand-in doesn't build");
    folder
}

fn run(example: &PathBuf, libraries: &Path, socket: &Path) -> (Output, Vec<String>) {
    let calls = libraries.join("calls");
    let mut command = Command::new(example);
    command.args(["gpu0", "4MiB"]).env("LD_LIBRARY_PATH", libraries).env("PEERMEMD_SOCKET", socket);
    let output = command.env("PEERMEM_TEST_CALLS", &calls).output().unwrap();
    let calls = fs::read_to_string(calls).unwrap_or_default();
    (output, calls.lines().map(str::to_owned).collect())
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_driver_they_say_what_is_missing() {
    let nowhere = tempfile::tempdir().unwrap();
    for (name, library) in [("cuda_owner", "libcuda.so.1"), ("rocm_owner", "libhsa-runtime64.so.1")] {
        let (output, _) = run(&example(name), nowhere.path(), Path::new("/nonexistent"));
        assert!(!output.status.success());
        let said = errors(&output);
        assert!(said.contains(library) && said.contains("it comes with"), "{said}");
    }
}

#[test]
fn the_cuda_owner_exports_all_of_one_allocation_and_frees_it() {
    let (libraries, daemon) = (stand_in("cuda.rs", "libcuda.so.1"), Daemon::start());
    let (output, calls) = run(&example("cuda_owner"), libraries.path(), &daemon.socket);
    // The stand-in's descriptor is no dma-buf, as the daemon sees.
    assert!(errors(&output).contains("isn't a dma-buf"), "{}", errors(&output));
    assert_eq!(
        calls,
        [
            "cuInit",
            "cuDeviceGet",
            "cuDeviceGetAttribute",
            "cuDeviceGetPCIBusId",
            "cuDevicePrimaryCtxRetain",
            "cuCtxSetCurrent",
            "cuMemAlloc 4194304",
            "cuPointerSetAttribute",
            "cuMemGetHandleForAddressRange 4194304",
            "cuMemFree",
            "cuDevicePrimaryCtxRelease",
        ]
    );
}

#[test]
fn the_rocm_owner_exports_all_of_one_allocation_and_frees_it() {
    let (libraries, daemon) = (stand_in("hsa.rs", "libhsa-runtime64.so.1"), Daemon::start());
    let (output, calls) = run(&example("rocm_owner"), libraries.path(), &daemon.socket);
    assert!(errors(&output).contains("isn't a dma-buf"), "{}", errors(&output));
    assert_eq!(
        calls,
        [
            "hsa_init",
            "hsa_iterate_agents",
            "hsa_amd_agent_iterate_memory_pools",
            "hsa_amd_memory_pool_allocate 4194304",
            "hsa_amd_portable_export_dmabuf 4194304",
            "hsa_amd_memory_pool_free",
            "hsa_shut_down",
        ]
    );
}
