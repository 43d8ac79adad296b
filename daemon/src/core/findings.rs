//! What self-tests found: a verdict of the topology says what the kernel accepts, and not what arrives.

use std::collections::BTreeMap;

use peermem_proto::{DeviceFinding, Initiator, Method, OnDemandFinding, PciAddress, RdmaName, Refusal, call};

use super::region::RegionState;

/// The findings reported so far. Reports come from root alone and name devices that exist, so that they stay few.
#[derive(Debug, Default)]
pub struct Findings {
    devices: BTreeMap<RdmaName, DeviceFinding>,
    /// Pairs that the kernel accepts and whose bytes don't arrive: provider, initiator, what went wrong.
    lost: BTreeMap<(PciAddress, Initiator), String>,
}

impl Findings {
    /// What each device was found to do.
    pub fn devices(&self) -> impl Iterator<Item = (&RdmaName, &DeviceFinding)> {
        self.devices.iter()
    }

    /// The pairs that lose bytes: provider and initiator.
    pub fn lost(&self) -> impl Iterator<Item = (PciAddress, &Initiator)> {
        self.lost.keys().map(|(provider, initiator)| (*provider, initiator))
    }

    pub(super) fn device(&mut self, mut report: call::ReportDevice) {
        if let OnDemandFinding::Broken { finding } = &mut report.found.on_demand {
            *finding = shortened(finding);
        }
        self.devices.insert(report.device, report.found);
    }

    pub(super) fn pair(&mut self, report: call::ReportPair) {
        let pair = (report.provider, report.initiator);
        match report.wrong {
            Some(wrong) => drop(self.lost.insert(pair, shortened(&wrong))),
            None => drop(self.lost.remove(&pair)),
        }
    }

    /// What is known of `initiator`, unless it speaks against a mapping of `region`.
    pub(super) fn of(
        &self,
        region: &RegionState,
        initiator: &Initiator,
    ) -> Result<Option<DeviceFinding>, Refusal> {
        let name = || region.spec.name.clone();
        let pair = region.spec.device.map(|provider| (provider, initiator.clone()));
        if let Some(found) = pair.and_then(|pair| self.lost.get(&pair)) {
            let (initiator, found) = (initiator.clone(), found.clone());
            return Err(Refusal::BytesLost { region: name(), initiator, found });
        }
        let Initiator::Rdma(device) = initiator else { return Ok(None) };
        let Some(found) = self.devices.get(device) else { return Ok(None) };
        match obstacle(region.spec.method, found) {
            None => Ok(Some(found.clone())),
            Some(why) => {
                let (initiator, method) = (initiator.clone(), region.spec.method);
                Err(Refusal::NoMethod { region: name(), initiator, method, why })
            }
        }
    }
}

/// A finding stands in every answer about its device: a sentence, not a report.
fn shortened(finding: &str) -> String {
    finding.chars().take(256).collect()
}

/// What keeps memory of `method` from becoming an MR of the device.
fn obstacle(method: Method, found: &DeviceFinding) -> Option<String> {
    match (method, &found.on_demand) {
        (Method::OnDemand, OnDemandFinding::Unsupported {}) => Some(
            "the device has no on-demand paging, and these pages can't be pinned (rdma_rxe has it in kernels newer than 6.12, \
             mlx5 with ODP switched on in its firmware)"
                .to_owned(),
        ),
        (Method::OnDemand, broken @ OnDemandFinding::Broken { .. }) => Some(broken.to_string()),
        (Method::Dmabuf, _) if !found.dmabuf => Some(
            "the device's driver or its rdma-core provider can't register dma-bufs (mlx5, irdma, bnxt_re, efa and mana can)"
                .to_owned(),
        ),
        _ => None,
    }
}
