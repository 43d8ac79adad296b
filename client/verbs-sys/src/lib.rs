//! The libibverbs ABI: structs, constants and symbols found at run time. Nothing else.
//!
//! There is no build script, no header and no link-time dependency: [`Verbs::get`] opens `libibverbs.so.1` when it is
//! first asked for, and a machine without it gets a [`LoadError`] that says what to install. What C programs take from
//! `infiniband/verbs.h` as inline functions is in [`inline`].
//!
//! Names, field order and meaning are those of `infiniband/verbs.h` (rdma-core), so its manual pages (`ibv_*(3)`)
//! describe them. The unit test `abi` compiles a C program against the installed header and compares every size,
//! offset, constant and signature declared here; since the table it compares is written by the macro that writes the
//! declarations, nothing can be declared and left out of the comparison.
#![allow(unsafe_code, reason = "this crate is the foreign-function boundary")]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    reason = "the names and their meaning are those of verbs.h"
)]

#[cfg(test)]
mod abi;
#[macro_use]
mod declare;
pub mod inline;
mod symbols;

declaration_modules! { cq, device, event, mr, qp, query, wr }

pub use symbols::{_compat_ibv_port_attr, LoadError, Verbs};
