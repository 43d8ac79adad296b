//! Every unsafe line of the daemon, each behind a safe function.
#![allow(unsafe_code)]

mod readable;

pub use readable::Readable;
