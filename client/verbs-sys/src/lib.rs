//! The libibverbs ABI: structs, constants and symbols found at run time. Nothing else.
#![allow(unsafe_code)]
