//! BARs of functions bound to vfio-pci: FPGAs with memory on board, GPUs in user space's hands.
//!
//! Each lease gets a dma-buf of exactly its bytes. A window that comes back is lent again only after two things:
//!
//! ```text
//!   free ──carve──► lent ──give_back──► returned ──settle──► clearing ──cleared──► free
//!                     │                     │  nobody has it               zeroed
//!                     └──────── revoke ─────┴────────────────────►┘
//! ```
//!
//! * **Nobody has it.** A client's copy of the dma-buf or an importer's registration outlives the lease, and the kernel can't
//!   revoke one dma-buf alone. It counts references, though, and the daemon's own copy shows the count. What is mapped for
//!   initiators is counted by the daemon.
//! * **It is zeroed**, as is all of a BAR before its first lease.
//!
//! **Revocation is enforced and device-wide.** [`VfioProvider::revoke`] closes the device: the kernel resets it and revokes
//! every dma-buf that it exported, those of blameless neighbours too. Clearing the Command register's memory bit revokes
//! as well, but what was revoked so comes back to life when the bit is set again, and so do dma-bufs after a reset.
//!
//! **Invariant:** the device's descriptor never leaves the daemon. Whoever had it could reach every lease, and keep the device
//! from being closed.

mod bar;
mod clearing;
mod error;
mod provider;

pub use bar::{BarOf, Window};
pub use clearing::{Cleared, Clearing};
pub use error::{CarveError, RevokeError, VfioError};
pub use provider::VfioProvider;
