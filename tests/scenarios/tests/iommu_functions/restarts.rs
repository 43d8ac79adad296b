//! A restart of the daemon ends no mapping, and forgets none.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use peermem::rdma::pattern;
use peermem_scenarios::{
    command::run,
    daemon::UNIT,
    faults,
    owned::{LENGTH, Owner, engine, lease, lease_and_drive},
    peers::CpuAccess as _,
    vfio::{FPGA, GPU},
    wait::until,
};

const BYTES: usize = 16 << 10;

/// Moves bytes before and after the daemon goes through `restart`, and gives the mapping back to the daemon that came.
fn a_mapping_outlives(restart: impl FnOnce(u32)) {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let fpga = lease(&client, "fpga");
    let [from, to] = [&gpu, &fpga].map(|lease| lease.address_for(&engine()).unwrap());
    let first = pattern::bytes(1, BYTES);
    owner.look_at(GPU, &gpu).put(0, &first);
    edu.copy(&from, &to, LENGTH);

    let before = owner.daemon.pid();
    restart(before);
    assert_ne!(client.status().unwrap().pid, before);
    until("the leases are resumed", || {
        client.leases().unwrap().iter().all(|lease| !lease.waiting).then_some(())
    });
    assert!(!gpu.is_lost() && !fpga.is_lost());

    // Nothing was reset, zeroed or unmapped.
    assert_eq!(pattern::difference(&owner.look_at(FPGA, &fpga).all(), &first), None);
    let second = pattern::bytes(2, BYTES);
    owner.look_at(GPU, &gpu).put(0, &second);
    edu.copy(&from, &to, LENGTH);
    assert_eq!(pattern::difference(&owner.look_at(FPGA, &fpga).all(), &second), None);
    assert_eq!(faults::within(to.iova, LENGTH), 0);

    fpga.unmap().unwrap();
    faults::expect(to.iova, LENGTH, || edu.copy(&from, &to, LENGTH));
    drop(gpu);
    owner.until_free("fpga");
    owner.until_free("gpu");
}

#[test]
fn a_mapping_outlives_systemctl_restart() {
    a_mapping_outlives(|_| drop(run(&format!("systemctl restart {UNIT}"))));
}

#[test]
fn a_mapping_outlives_kill_9() {
    a_mapping_outlives(|pid| kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap());
}

#[test]
fn a_stop_for_good_ends_every_mapping_although_a_client_has_the_engine() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let at = gpu.address_for(&engine()).unwrap();
    edu.copy(&at, &at, LENGTH);
    assert_eq!(faults::within(at.iova, LENGTH), 0);
    run(&format!("systemctl stop {UNIT}"));
    faults::expect(at.iova, LENGTH, || edu.copy(&at, &at, LENGTH));
}
