//! Profile `old-kernel`: soft-RoCE without on-demand paging. What can't become a memory region is refused, not granted and
//! left to fail.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_proto::{ByteLen, Method, Refusal};
use peermem_scenarios::{
    command::{peermemctl, succeed},
    daemon::{Daemon, refusal},
    drive::Drive,
    leased::{request, rxe},
};

#[test]
fn memory_that_can_not_become_a_region_is_refused_with_the_reason() {
    let daemon = Daemon::start_with(None);
    let client = daemon.client();
    succeed(&mut peermemctl("selftest --report"));
    let (a, page) = (Drive::named("a"), ByteLen::new(4096));
    let refused = refusal(client.map(&request(a.region(), page, &[rxe()])));
    assert!(matches!(&refused, Refusal::NoMethod { method: Method::OnDemand, .. }), "{refused}");
    assert!(refused.to_string().contains("no on-demand paging"), "{refused}");
    // A drive needs no memory region.
    let lease = client.map(&request(a.region(), page, &[a.initiator()])).unwrap();
    assert_eq!(lease.info().paths[0].found, None);
}
