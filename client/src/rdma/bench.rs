//! Where tests of a device take place: memory on two sides, and connections of the device with itself.

use std::sync::Arc;

use peermem_proto::Method;

use super::{
    loopback::{Case, Finding, Loopback, Side, Verb},
    port::LocalPort,
    probe::ProbeError,
    quirks::page_size,
};
use crate::verbs::{Mtu, OdpCaps, ProtectionDomain};

/// Pages on each side: transfers lie in the middle, so that strays to either side are seen.
pub(super) const PAGES: usize = 8;
/// The pages at which transfers begin, here and there. They differ, so that a device that mixes the sides up is seen.
pub(super) const START: (usize, usize) = (2, 3);

/// Bytes of a page.
pub(super) fn page() -> usize {
    page_size() as usize
}

/// The two sides, and what the port carries.
pub(super) struct Bench<'a> {
    pd: &'a Arc<ProtectionDomain>,
    port: &'a LocalPort,
    here: Side,
    there: Side,
    /// The largest packets to test with.
    pub(super) large: Mtu,
}

impl<'a> Bench<'a> {
    pub(super) fn new(pd: &'a Arc<ProtectionDomain>, port: &'a LocalPort, sides: [Side; 2]) -> Self {
        let [here, there] = sides;
        // Loopback packets never reach the network, so soft-RoCE takes more than the network would carry. Others refuse.
        let largest = port.attributes.max_mtu.unwrap_or(port.mtu);
        let large = if Loopback::connect(pd, port, largest).is_ok() { largest } else { port.mtu };
        Self { pd, port, here, there, large }
    }

    /// Runs cases until one goes wrong, which also ends the connection.
    pub(super) fn group(&self, mtu: Mtu, cases: &[Case]) -> Result<Option<Finding>, ProbeError> {
        let mut loopback = Loopback::connect(self.pd, self.port, mtu)?;
        for case in cases {
            if let Some(finding) = loopback.run(*case, &self.here, &self.there)? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    }
}

/// Every verb between every pair of methods at every place: offsets here and there, and a length.
pub(super) fn cases(
    verbs: &[Verb],
    sides: &[(Method, Method)],
    places: &[(usize, usize, usize)],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for &verb in verbs {
        for &(local, remote) in sides {
            for &(local_offset, remote_offset, len) in places {
                cases.push(Case { verb, local, local_offset, remote, remote_offset, len });
            }
        }
    }
    cases
}

/// The verbs that the device claims to carry out between such regions.
pub(super) fn verbs(odp: &OdpCaps, here: Method, there: Method) -> Vec<Verb> {
    let sends =
        (here != Method::OnDemand || odp.rc.send()) && (there != Method::OnDemand || odp.rc.receive());
    let mut verbs = vec![Verb::Write, Verb::Read];
    verbs.extend(sends.then_some(Verb::Send));
    verbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_tested_where_they_are_claimed() {
        let odp = OdpCaps::default();
        assert!(verbs(&odp, Method::Pinned, Method::Dmabuf).contains(&Verb::Send));
        assert!(!verbs(&odp, Method::OnDemand, Method::Pinned).contains(&Verb::Send));
    }
}
