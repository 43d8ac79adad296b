//! The long self-test: what a device does with every verb, method, alignment and packet size, as a table.
//!
//! [`probe`] asks only what endpoints need to know before they start. This asks everything, by the same means:
//! transfers between two pieces of host memory, of which every byte is compared.

use std::{error::Error, iter, os::fd::AsFd, sync::Arc};

use peermem_proto::{ByteLen, Method};
use serde::Serialize;

use super::{
    bench::{Bench, PAGES, START, cases, page, verbs},
    loopback::Side,
    port::LocalPort,
    probe::{self, ProbeError},
};
pub use super::{
    capability::{Alignment, Cell, Defect},
    loopback::Verb,
};
use crate::{
    advice,
    verbs::{Context, HostDmabuf, Mtu, ProtectionDomain},
};

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The device.
    pub device: String,
    /// Its port, counted from 1.
    pub port: u8,
    /// Path MTUs that transfers were made with.
    pub mtus: Vec<Mtu>,
    /// Methods that could not be tested, and why.
    pub untested: Vec<Untested>,
    /// Every combination that was tested.
    pub cells: Vec<Cell>,
}

/// A method that could not be tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Untested {
    /// Which.
    pub method: Method,
    /// Why.
    pub why: String,
}

impl Report {
    /// The combinations that moved wrong bytes or failed.
    pub fn defects(&self) -> impl Iterator<Item = (&Cell, &Defect)> {
        self.cells.iter().filter_map(|cell| Some((cell, cell.defect.as_ref()?)))
    }
}

/// Tests a port of a device by all means. Takes seconds.
///
/// # Errors
///
/// [`ProbeError`] when the test can't run. Wrong bytes are no error here: they are in the report.
pub fn run(context: &Arc<Context>, port: u8) -> Result<Report, ProbeError> {
    let quirks = match probe::quirks(context, port) {
        Ok(quirks) => Some(quirks),
        Err(ProbeError::PinnedIsWrong { .. }) => None,
        Err(error) => return Err(error),
    };
    let odp = context.attributes()?.odp;
    let local = LocalPort::find(context, port, None)?;
    let pd = ProtectionDomain::new(context)?;
    let mut untested = Vec::new();
    let mut lacks = |method, why: String| untested.push(Untested { method, why });
    if !odp.rc_read_write() {
        lacks(
            Method::OnDemand,
            format!("the device claims none; it takes {}", advice::needs(Method::OnDemand)),
        );
    }
    let (sides, dmabuf) = match dmabuf_sides(&pd, odp.rc_read_write()) {
        Ok(sides) => (sides, true),
        Err(why) => {
            lacks(Method::Dmabuf, in_words(&why));
            let [here, there] = [0; 2].map(|_| Side::anonymous(&pd, odp.rc_read_write()));
            ([here?, there?], false)
        }
    };
    let bench = Bench::new(&pd, &local, sides);
    let mtus: Vec<Mtu> = bench.large.and_smaller().collect();
    let mut cells = Vec::new();
    for (here, there) in pairs(odp.rc_read_write(), dmabuf) {
        for verb in verbs(&odp, here, there) {
            for alignment in Alignment::ALL {
                for &mtu in &mtus {
                    let cases = cases(&[verb], &[(here, there)], &places(alignment));
                    let finding = bench.group(mtu, &cases)?;
                    let cell = Cell { verb, here, there, alignment, mtu, defect: None };
                    cells.push(cell.with(finding.map(|finding| finding.to_string()), quirks.as_deref()));
                }
            }
        }
    }
    Ok(Report { device: context.name().to_owned(), port, mtus, untested, cells })
}

/// Two sides whose memory is registered as a dma-buf too.
fn dmabuf_sides(pd: &Arc<ProtectionDomain>, on_demand: bool) -> Result<[Side; 2], ProbeError> {
    pd.check_dmabuf()?;
    let side = || {
        let dmabuf = HostDmabuf::new(ByteLen::from_usize(PAGES * page()))?;
        let mut side = Side::new(pd, dmabuf.map()?, on_demand)?;
        side.add_dmabuf(dmabuf.as_fd())?;
        Ok::<_, ProbeError>(side)
    };
    Ok([side()?, side()?])
}

fn in_words(error: &ProbeError) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Each method with itself, and with pinned memory at the other end.
fn pairs(on_demand: bool, dmabuf: bool) -> Vec<(Method, Method)> {
    let mut pairs = vec![(Method::Pinned, Method::Pinned)];
    for (method, there_is) in [(Method::OnDemand, on_demand), (Method::Dmabuf, dmabuf)] {
        if there_is {
            pairs.extend([(method, Method::Pinned), (Method::Pinned, method), (method, method)]);
        }
    }
    pairs
}

/// Every length at every combination of an aligned and an unaligned start.
fn places(alignment: Alignment) -> Vec<(usize, usize, usize)> {
    let page = page();
    let (here, there) = (START.0 * page, START.1 * page);
    let off = alignment.offset();
    let mut starts = vec![(here + off, there + off)];
    if off > 0 {
        starts.extend([(here + off, there), (here, there + off)]);
    }
    let lengths = [1, 8, 64, page - 1, page, page + 1, 3 * page + 123];
    starts.into_iter().flat_map(|(here, there)| lengths.map(|len| (here, there, len))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_lies_inside_with_a_page_to_spare() {
        for alignment in Alignment::ALL {
            for (here, there, len) in places(alignment) {
                for start in [here, there] {
                    assert!(start >= page() && start + len <= (PAGES - 1) * page(), "{start} + {len}");
                }
            }
        }
    }

    #[test]
    fn a_method_that_is_missing_is_in_no_pair() {
        assert_eq!(pairs(false, false), [(Method::Pinned, Method::Pinned)]);
        assert!(pairs(true, false).iter().all(|&(here, there)| ![here, there].contains(&Method::Dmabuf)));
        assert_eq!(pairs(true, true).len(), 7);
    }
}
