//! Every unsafe line of the daemon, each behind a safe function.
#![allow(unsafe_code)]

mod device_memory;
mod inherited;
mod peer_groups;
mod piece;
mod readable;
pub mod vfio;

pub use device_memory::{DeviceMemory, NotInside};
pub use inherited::take_inherited;
pub use peer_groups::peer_groups;
pub use piece::Piece;
pub use readable::Readable;
