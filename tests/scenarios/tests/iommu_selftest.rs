//! Profile `iommu`: the kernel accepts a pair of drives whose bytes are lost. The self-test finds it, and the daemon refuses.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_proto::{ByteLen, OnDemandFinding, Refusal};
use peermem_scenarios::{
    command::{described, json, peermemctl},
    daemon::{Daemon, refusal},
    drive::Drive,
    leased::{request, rxe},
};

const PAGE: ByteLen = ByteLen::new(4096);

#[test]
fn a_pair_that_loses_every_byte_is_found_and_then_refused() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let (a, b) = (Drive::named("a"), Drive::named("b"));
    let lost = request(b.region(), PAGE, &[a.initiator()]);
    // Before the test nobody knows: the kernel accepts it.
    client.map(&lost).unwrap().unmap().unwrap();

    let tested = peermemctl("selftest --report").output().unwrap();
    assert_eq!(tested.status.code(), Some(4), "{}", described(&tested));
    let pairs = json(&String::from_utf8(tested.stdout).unwrap());
    let result = |from: &Drive, to: &Drive| {
        let (initiator, region) = (from.initiator().to_string(), to.region().to_string());
        let pairs = pairs.as_array().unwrap();
        let found = pairs.iter().find(|pair| pair["initiator"] == initiator && pair["region"] == region);
        found.unwrap_or_else(|| panic!("{initiator} to {region}: {pairs:?}"))["result"].clone()
    };
    for (from, to) in [(&a, &b), (&b, &a)] {
        let result = result(from, to);
        assert_eq!(result["kind"], "lost");
        assert!(result["wrong"].as_str().unwrap().contains("not one of 65536 bytes arrived"), "{result}");
    }
    for own in [&a, &b] {
        assert_eq!(result(own, own)["kind"], "arrived");
    }

    let labels = format!("initiator=\"{}\",provider=\"{}\"", a.initiator(), b.address);
    assert_eq!(daemon.metric(&format!("peermem_selftest_lost{{{labels}}}")), Some(1.0));
    let refused = refusal(client.map(&lost));
    assert!(matches!(refused, Refusal::BytesLost { .. }), "{refused}");
    assert!(refused.to_string().contains("although the kernel accepts it"), "{refused}");
    client.map(&request(b.region(), PAGE, &[b.initiator()])).unwrap().unmap().unwrap();
    let lease = client.map(&request(b.region(), PAGE, &[rxe()])).unwrap();
    let found = lease.info().paths[0].found.clone().unwrap();
    assert_eq!(found.on_demand, OnDemandFinding::PageAlignedOnly { min_path_mtu: 4096 });
}
