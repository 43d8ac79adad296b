//! The Debian package over its life: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use peermem_proto::ByteLen;
use peermem_scenarios::{
    command::{put_back, run},
    daemon::{Daemon, SOCKET, SOCKET_UNIT, UNIT, property},
    drive::Drive,
    leased::{request, rxe},
    wait::until,
};

/// What the guest's own installation was made from.
const PACKAGE: &str = "/usr/lib/peermem-tests/peermem.deb";
/// Prints which version is installed.
const QUERY_VERSION: &str = "dpkg-query --show --showformat='${Version}' peermem";
const CONFIG: &str = "/etc/peermemd/peermemd.toml";
const MIB: ByteLen = ByteLen::new(1 << 20);

/// Leaves the package as the other scenarios want it: installed as it was, its daemon stopped.
struct PutBack;

impl Drop for PutBack {
    fn drop(&mut self) {
        let as_it_was = format!("test \"$({QUERY_VERSION})\" = \"$(dpkg-deb --field {PACKAGE} Version)\"");
        put_back(&format!(
            "{as_it_was} || {}; systemctl stop {SOCKET_UNIT} {UNIT}",
            install(Path::new(PACKAGE))
        ));
    }
}

fn install(package: &Path) -> String {
    format!("dpkg --force-confmiss --force-downgrade --install {} 2>&1", package.display())
}

/// The package again, as a later version.
fn next_version(folder: &Path) -> PathBuf {
    let (tree, package) = (folder.join("tree"), folder.join("next.deb"));
    let (from, to) = (tree.display(), package.display());
    run(&format!("dpkg-deb --raw-extract {PACKAGE} {from}"));
    run(&format!("sed --in-place 's/^Version: .*/&+next/' {from}/DEBIAN/control"));
    run(&format!("dpkg-deb -Zgzip -z1 --build {from} {to}"));
    package
}

/// The user that owns the allocators, which the kernel made root's.
fn allocators_belong_to(user: &str) {
    let uid: u32 = run(&format!("id --user {user}")).trim().parse().unwrap();
    for drive in ["a", "b", "c"].map(Drive::named) {
        assert_eq!(fs::metadata(drive.allocator()).unwrap().uid(), uid, "{}", drive.address);
    }
}

#[test]
fn an_upgrade_restarts_the_daemon_and_keeps_config_and_memory() {
    let _put_back = PutBack;
    let daemon = Daemon::start();
    let (pid, config) = (daemon.pid(), fs::read_to_string(CONFIG).unwrap());
    let lease = daemon.client().map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    let mapping = lease.mapping().unwrap();
    mapping.copy_from_slice(0, b"still here").unwrap();

    let folder = tempfile::tempdir().unwrap();
    run(&install(&next_version(folder.path())));
    assert!(run(QUERY_VERSION).ends_with("+next"));
    assert_eq!(fs::read_to_string(CONFIG).unwrap(), config);
    assert_ne!(daemon.pid(), pid);
    assert_eq!(daemon.client().status().unwrap().regions, 3);
    // The memory is the kernel's: a transfer under way isn't disturbed.
    let mut found = [0; 10];
    mapping.copy_to_slice(0, &mut found).unwrap();
    assert_eq!(&found, b"still here");
}

#[test]
fn an_upgrade_keeps_the_leases() {
    let _put_back = PutBack;
    let daemon = Daemon::start();
    let lease = daemon.client().map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run(&install(&next_version(folder.path())));
    until("the lease is back", || {
        let status = daemon.client().status().unwrap();
        assert_eq!(status.leased_bytes, MIB.get());
        (status.waiting == 0).then_some(())
    });
    lease.unmap().unwrap();
    assert_eq!(daemon.client().status().unwrap().leased_bytes, 0);
}

#[test]
fn it_goes_without_a_trace_and_comes_back_serving() {
    let _put_back = PutBack;
    run(&format!("systemctl start {UNIT}"));
    fs::write(CONFIG, "# The administrator's own.\n").unwrap();
    run("dpkg --remove peermem 2>&1");
    assert!(!Path::new("/usr/bin/peermemd").exists() && !Path::new(SOCKET).exists());
    assert_eq!(property("LoadState"), "masked", "what starts it by name is told why it can't");
    assert_eq!(fs::read_to_string(CONFIG).unwrap(), "# The administrator's own.\n");
    allocators_belong_to("root");

    run("dpkg --purge peermem 2>&1");
    assert_eq!(property("LoadState"), "not-found");
    let tests_own = "-path '*/peermem-tests' -prune -o -path '*peermem-vm*' -prune -o -path /run/udev -prune";
    let left = run(&format!("find /etc /run /usr /var {tests_own} -o -name '*peermem*' -print"));
    assert_eq!(left, "");

    run(&install(Path::new(PACKAGE)));
    for unit in [SOCKET_UNIT, UNIT] {
        assert_eq!(run(&format!("systemctl is-enabled {unit}")).trim(), "enabled", "{unit}");
    }
    assert_eq!(property("ActiveState"), "active");
    allocators_belong_to("peermem");
    let client = peermem::Client::connect_to(SOCKET).unwrap();
    let lease = client.map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    lease.mapping().unwrap().copy_from_slice(0, b"served").unwrap();
    // Reads drives, so it is the administrator's to enable.
    assert_eq!(run("systemctl is-enabled peermem-selftest || true").trim(), "disabled");
}
