//! Who drives the engine reaches all that is mapped for it: so it is one user's at a time.

use std::process::Output;

use peermem_proto::Direction;
use peermem_scenarios::{
    command::{described, peermemctl},
    owned::{Owner, engine, lease_and_drive, request},
    user::User,
    vfio::{EDU, address_of},
    wait::until,
};

/// Maps for the engine as a user, and gives it back at once.
fn map(user: &User) -> Output {
    let line = format!("map fpga --size 16KiB --initiator {} --for 0", engine());
    user.command(&peermemctl(&line)).output().unwrap()
}

#[test]
fn the_engine_is_another_users_when_the_first_has_let_go_of_it() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let other = User::add_member("other");
    assert!(map(&other).status.success(), "nobody has the engine");

    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let device = gpu.device().unwrap().try_clone_to_owned().unwrap();
    let assert_refused = || {
        let refused = map(&other);
        let words = described(&refused);
        assert!(!refused.status.success() && words.contains("another user"), "{words}");
    };
    assert_refused();
    // Without a lease, it could still be driven.
    drop(gpu);
    assert_refused();
    assert_refused();
    drop((device, edu));
    until("the other user may have it", || map(&other).status.success().then_some(()));
    owner.until_free("gpu");
    owner.until_free("fpga");

    // And the first one's again.
    let request = request("gpu", Direction::Bidirectional).driving(address_of(EDU));
    until("the first user may have it", || client.map(&request).ok());
}
