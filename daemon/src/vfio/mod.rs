//! PCI functions that the daemon takes over from the kernel through vfio-pci, to serve their memory
//! ([`crate::provider::vfio`]) or to map memory for them ([`crate::mapper`]).

mod claim;
mod function;
mod rules;

pub use claim::Space;
pub(crate) use function::CLOSING;
pub use function::{Descriptors, Function, Member, Members, OpenError};
pub use rules::{Backend, InitiatorRules, Rules, Taking, WithoutIommu};
