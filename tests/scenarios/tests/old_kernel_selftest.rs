//! Profile `old-kernel`: a kernel without P2PDMA, and soft-RoCE that can neither page on demand nor register dma-bufs. What
//! can't become a memory region is refused, not granted and left to fail.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{os::fd::AsFd, process::Command};

use peermem_proto::{ByteLen, Method, OnDemandFinding, Refusal, Sharing};
use peermem_scenarios::{
    command::{peermemctl, succeed},
    daemon::{Daemon, refusal},
    drive::Drive,
    host_memory::udmabuf,
    leased::{request_whole, rxe},
};

/// There is no device memory on this kernel: RAM plays it, by the administrator's word.
const CONFIG: &str = "[registered]\nexporters = [\"udmabuf\"]\n";

#[test]
fn memory_that_can_not_become_a_region_is_refused_with_the_reason() {
    let daemon = Daemon::start_with(Some(CONFIG));
    let client = daemon.client();
    let memory = udmabuf(ByteLen::new(64 << 10));
    let owner = Drive::named("a").address;
    let region = client.register("ram".parse().unwrap(), owner, memory.as_fd(), Sharing::Owner).unwrap();
    let wanted = request_whole(region.region().name.clone(), &[rxe()]);
    // Before the test nobody knows.
    assert_eq!(client.map(&wanted).unwrap().info().paths[0].found, None);

    let said = succeed(Command::new("peermemctl").args(["selftest", "--report"]));
    assert!(said.contains(&OnDemandFinding::Unsupported {}.to_string()), "{said}");
    let refused = refusal(client.map(&wanted));
    assert!(matches!(&refused, Refusal::NoMethod { method: Method::Dmabuf, .. }), "{refused}");
    assert!(refused.to_string().contains("can't register dma-bufs"), "{refused}");
    // And no drive has memory that another could be read into.
    assert!(succeed(&mut peermemctl("selftest --pairs")).starts_with("[]"));
}
