//! The self-test: what a device does with on-demand regions, found out by moving bytes and looking at all of them.
//!
//! Two queue pairs of this process on one device move data between pieces of host memory. Three groups of transfers:
//!
//! 1. pinned memory at any offset, which every device has to get right;
//! 2. on-demand memory at page boundaries, with packets that fill a page, and every kind of remainder;
//! 3. on-demand memory at offsets inside a page, and with packets smaller than a page.
//!
//! A device that gets 2 right and 3 wrong is usable, if transfers keep to pages. `rdma_rxe` is one: it ignores the offset
//! inside the page (Linux 6.15 to at least 7.3) and completes with success.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use peermem_proto::Method;
use thiserror::Error;

pub use super::port::PortError;
use super::{
    bench::{Bench, cases, page, verbs},
    loopback::{Case, Side},
    port::LocalPort,
    quirks::{OnDemand, Quirks},
};
use crate::verbs::{
    CompletionError, Context, DeviceError, HostDmabufError, MemoryError, Mtu, OdpCaps, PostError,
    ProtectionDomain, QpError, RegisterError,
};

/// Why the self-test said nothing, or the worst.
#[derive(Debug, Clone, Error)]
pub enum ProbeError {
    /// The device moves wrong bytes even between pinned host memory.
    #[error("{device} can't be used: {finding}")]
    PinnedIsWrong {
        /// The device.
        device: String,
        /// The first test that went wrong.
        finding: String,
    },
    /// The port can't carry the test.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The device refused something.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No memory for the test.
    #[error("no memory for the self-test")]
    Memory(#[from] MemoryError),
    /// The memory can't be registered.
    #[error("the self-test's memory can't be registered")]
    Register(#[from] RegisterError),
    /// No dma-buf for the test.
    #[error(transparent)]
    HostDmabuf(#[from] HostDmabufError),
    /// The queue pairs can't be connected.
    #[error("the device can't be connected to itself")]
    QueuePair(#[from] QpError),
    /// A transfer was refused.
    #[error("the self-test's transfer was refused")]
    Post(#[from] PostError),
    /// A transfer didn't end.
    #[error("the self-test's transfer didn't end")]
    Completion(#[from] CompletionError),
    /// A page of this machine is larger than the test was made for.
    #[error("the self-test doesn't fit its memory")]
    Layout,
}

/// What is known of a device's port, tested once a process.
///
/// # Errors
///
/// [`ProbeError`]; not remembered, so that a port that comes up later is tested then.
pub fn quirks(context: &Arc<Context>, port: u8) -> Result<Arc<Quirks>, ProbeError> {
    type Known = HashMap<(String, u8), Arc<Quirks>>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    // Held during the test: two tests at a time would only slow each other down.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let key = (context.name().to_owned(), port);
    if let Some(quirks) = known.get(&key) {
        return Ok(quirks.clone());
    }
    let quirks = Arc::new(test(context, port)?);
    tracing::debug!(device = context.name(), port, ?quirks, "self-test");
    known.insert(key, quirks.clone());
    Ok(quirks)
}

/// Tests a device's port now.
///
/// # Errors
///
/// [`ProbeError`].
pub fn test(context: &Arc<Context>, port: u8) -> Result<Quirks, ProbeError> {
    let odp = context.attributes()?.odp;
    let claims_on_demand = odp.rc_read_write();
    let port = LocalPort::find(context, port, None)?;
    let pd = ProtectionDomain::new(context)?;
    let [here, there] = [0; 2].map(|_| Side::anonymous(&pd, claims_on_demand));
    let bench = Bench::new(&pd, &port, [here?, there?]);
    if let Some(finding) = bench.group(bench.large, &pinned_cases())? {
        return Err(ProbeError::PinnedIsWrong {
            device: context.name().to_owned(),
            finding: finding.to_string(),
        });
    }
    let on_demand = if claims_on_demand { on_demand(&bench, &odp)? } else { OnDemand::Unsupported };
    Ok(Quirks { on_demand, dmabuf: pd.supports_dmabuf() })
}

fn on_demand(bench: &Bench<'_>, odp: &OdpCaps) -> Result<OnDemand, ProbeError> {
    let small = if bench.large > Mtu::Bytes1024 { Mtu::Bytes1024 } else { Mtu::Bytes256 };
    if let Some(finding) = bench.group(bench.large, &aligned_cases(odp))? {
        return Ok(OnDemand::Broken { finding: finding.to_string() });
    }
    let inside_pages = bench.group(bench.large, &in_page_cases(odp))?;
    let small_packets = bench.group(small, &aligned_cases(odp))?;
    Ok(match inside_pages.or(small_packets) {
        None => OnDemand::Sound,
        Some(finding) => {
            tracing::info!(%finding, "on-demand regions are only right page by page");
            OnDemand::PageAlignedOnly { min_path_mtu: bench.large }
        }
    })
}

/// On-demand memory on either side and on both.
const SIDES: [(Method, Method); 3] = [
    (Method::OnDemand, Method::Pinned),
    (Method::Pinned, Method::OnDemand),
    (Method::OnDemand, Method::OnDemand),
];

fn pinned_cases() -> Vec<Case> {
    let page = page();
    cases(
        &verbs(&OdpCaps::default(), Method::Pinned, Method::Pinned),
        &[(Method::Pinned, Method::Pinned)],
        &[(2 * page, 3 * page, 3 * page + 123), (2 * page + 100, 3 * page + 333, page + 904)],
    )
}

fn aligned_cases(odp: &OdpCaps) -> Vec<Case> {
    let page = page();
    let lengths = [8, page - 1, page, page + 1, 3 * page + 123];
    on_demand_cases(odp, &lengths.map(|len| (2 * page, 3 * page, len)))
}

fn in_page_cases(odp: &OdpCaps) -> Vec<Case> {
    let page = page();
    let inside = [
        (2 * page + 512, 3 * page, 64),
        (2 * page, 3 * page + 512, 64),
        (2 * page + 1, 3 * page + 1, 2 * page),
    ];
    on_demand_cases(odp, &inside)
}

/// Every verb that the device claims to carry out, at those places.
fn on_demand_cases(odp: &OdpCaps, places: &[(usize, usize, usize)]) -> Vec<Case> {
    SIDES
        .iter()
        .flat_map(|&(here, there)| cases(&verbs(odp, here, there), &[(here, there)], places))
        .collect()
}
