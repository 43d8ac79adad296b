//! What went wrong with a function, in the words of the wire.

use peermem_proto::{ByteLen, Fault, Initiator, Refusal, RegionName, varlink::CallError};

use crate::{
    mapper::{InitiatorError, MapError},
    provider::vfio::{CarveError, VfioError},
    ranges::NoPlace,
    vfio::OpenError,
    words::in_words,
};

/// Why a region isn't there that the config names.
pub(super) fn not_served(region: RegionName, error: &VfioError) -> Refusal {
    let why = in_words(error);
    match error {
        VfioError::Registers { .. } => Refusal::RegisterBar { region, why },
        _ => Refusal::NotServed { region, why },
    }
}

/// Why a lease gets no window.
pub(super) fn no_window(region: &RegionName, requested: ByteLen, error: &CarveError) -> CallError {
    let region = region.clone();
    match error {
        CarveError::NoRoom { source: NoPlace::Exhausted { largest, .. }, .. } => {
            Refusal::Fragmented { region, requested, largest: *largest }.into()
        }
        _ => {
            let operation = "making a dma-buf".to_owned();
            Fault::ProviderFailed { region, operation, reason: in_words(error) }.into()
        }
    }
}

/// Why the daemon maps nothing for a function.
pub(super) fn no_initiator(initiator: Initiator, error: &InitiatorError) -> Refusal {
    let why = in_words(error);
    let members = match error {
        InitiatorError::Open(OpenError::NoIommu { .. } | OpenError::NotAllowed(_)) => {
            return Refusal::NoIommu { initiator, why };
        }
        InitiatorError::Open(error) if error.is_in_use() => return Refusal::InitiatorTaken { initiator },
        InitiatorError::SharedGroup { others, .. }
        | InitiatorError::Open(OpenError::NotViable { others, .. }) => others,
        _ => return Refusal::InitiatorNotServed { initiator, why },
    };
    let others = members.0.iter().map(|member| member.address).collect();
    Refusal::SharedGroup { initiator, others, why }
}

/// Why a mapping wasn't made.
pub(super) fn not_mapped(region: &RegionName, initiator: Initiator, error: MapError) -> CallError {
    let refusal = match error {
        MapError::NotAligned { what, value, page } => Refusal::NotAligned {
            region: region.clone(),
            field: what.to_owned(),
            value: ByteLen::new(value),
            alignment: page,
        },
        MapError::Overlap { iova, length, taken } => Refusal::AddressTaken { initiator, iova, length, taken },
        MapError::Unreachable { iova, length } => Refusal::AddressReserved { initiator, iova, length },
        MapError::AddressesUsedUp { length, largest } => {
            Refusal::AddressesUsedUp { initiator, length, largest }
        }
        MapError::MappingsUsedUp => Refusal::MappingsUsedUp { initiator },
        MapError::Untranslated { .. } | MapError::Unrestricted { .. } | MapError::NoBusAddress => {
            Refusal::NoIommu { initiator, why: in_words(&error) }
        }
        MapError::MemoryGone | MapError::Kernel { .. } => {
            let operation = format!("mapping for {initiator}");
            return Fault::ProviderFailed { region: region.clone(), operation, reason: in_words(&error) }
                .into();
        }
    };
    refusal.into()
}
