//! The way between two functions.

use peermem_proto::PciAddress;

use crate::function::Function;

/// The way from a provider to an initiator, through their nearest common upstream bridge where there is one.
pub(crate) struct Way {
    /// From the provider up to, and without, the common bridge; up to the root bus when there is none.
    pub(crate) up: Vec<PciAddress>,
    /// The common bridge; a function that both are, or that the other is below, is one.
    pub(crate) meet: Option<PciAddress>,
    /// From below the common bridge, or below the root bus, down to the initiator.
    pub(crate) down: Vec<PciAddress>,
}

impl Way {
    /// The shortest way.
    pub(crate) fn shortest(provider: (PciAddress, &Function), initiator: (PciAddress, &Function)) -> Self {
        let (from, to) = (from_root(provider), from_root(initiator));
        let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
        Self {
            up: from[shared..].iter().rev().copied().collect(),
            meet: shared.checked_sub(1).map(|common| from[common]),
            down: to[shared..].to_vec(),
        }
    }

    /// The way over the host bridge, whether or not there is a shorter one.
    pub(crate) fn through_root(
        provider: (PciAddress, &Function),
        initiator: (PciAddress, &Function),
    ) -> Self {
        Self { up: from_root(provider).into_iter().rev().collect(), meet: None, down: from_root(initiator) }
    }

    /// Hops up plus hops down, as the kernel counts them.
    pub(crate) fn distance(&self) -> usize {
        self.up.len() + self.down.len()
    }

    /// The functions whose ACS decides, from the provider up to the common bridge, then from the initiator up to, and
    /// without, it. Empty when the two don't meet.
    pub(crate) fn ports(&self) -> Vec<PciAddress> {
        match self.meet {
            Some(meet) => self.up.iter().chain([&meet]).chain(self.down.iter().rev()).copied().collect(),
            None => Vec::new(),
        }
    }
}

fn from_root((address, function): (PciAddress, &Function)) -> Vec<PciAddress> {
    [function.upstream.as_slice(), &[address]].concat()
}
