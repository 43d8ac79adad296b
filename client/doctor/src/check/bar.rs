//! GPUs whose memory doesn't fit through their BAR.

use peermem_proto::PciAddress;
use peermem_topology::MemoryKind;

use super::scope::Scope;
use crate::{Finding, facts::Facts};

const CHECK: &str = "bar-size";
const WHY: &str = "only what lies inside the BAR can be peer memory";
const FIX: &str = "switch on \"Above 4G Decoding\" and \"Resizable BAR\" in the firmware";

pub(super) fn small(facts: &Facts, scope: &Scope<'_>) -> Vec<Finding> {
    let gpus = scope.providers.iter().filter(|(_, kinds)| kinds.contains(&MemoryKind::Gpu));
    gpus.filter_map(|(&address, _)| of_function(facts, scope, address)).collect()
}

fn of_function(facts: &Facts, scope: &Scope<'_>, address: PciAddress) -> Option<Finding> {
    let bars = &scope.snapshot.functions.get(&address)?.details.bars;
    let bar = bars.iter().filter(|bar| bar.prefetchable).max_by_key(|bar| bar.size)?;
    let about = scope.name(address);
    let is = format!("BAR {} has {}", bar.index, bar.size);
    let possible = bar.resizable_to.iter().max().filter(|&&most| most > bar.size);
    Some(match (facts.vram.get(&address), possible) {
        (Some(&memory), _) if bar.size >= memory => {
            Finding::pass(CHECK, about, format!("{is} for {memory} of memory"))
        }
        (Some(memory), Some(most)) => {
            Finding::warn(CHECK, about, format!("{is} for {memory} of memory, and could have {most}"), WHY)
                .fix(FIX)
        }
        (Some(memory), None) => {
            Finding::warn(CHECK, about, format!("{is} for {memory} of memory"), WHY).fix(FIX)
        }
        (None, Some(most)) => {
            Finding::warn(CHECK, about, format!("{is}, and could have {most}"), WHY).fix(FIX)
        }
        (None, None) => {
            Finding::unknown(CHECK, about, format!("{is}; its driver doesn't say how much memory there is"))
        }
    })
}
