//! A call and what it is to be made with, as often as it takes.

use std::os::fd::{BorrowedFd, OwnedFd};

use peermem_proto::{Refusal, call::Call, varlink::CallError};

use super::{CallFailed, holdings::Kept};

/// A call that can be made again after the daemon has gone and come back.
#[derive(Debug)]
pub(crate) struct Request<'a, C> {
    pub(super) call: &'a C,
    sends: Option<BorrowedFd<'a>>,
    pub(super) brings: usize,
    about: Option<&'a Kept>,
    pub(super) repeatable: bool,
}

impl<'a, C: Call> Request<'a, C> {
    /// A call without descriptors that does no harm when it is made twice.
    pub(crate) fn new(call: &'a C) -> Self {
        Self { call, sends: None, brings: 0, about: None, repeatable: true }
    }

    /// A duplicate of `fd` goes along.
    pub(crate) fn sending(self, fd: BorrowedFd<'a>) -> Self {
        Self { sends: Some(fd), ..self }
    }

    /// So many descriptors come back.
    pub(super) fn bringing(self, fds: usize) -> Self {
        Self { brings: fds, ..self }
    }

    /// The call names something that must still be there when it is made: another table of leases may give its number
    /// to somebody else.
    pub(crate) fn about(self, kept: &'a Kept) -> Self {
        Self { about: Some(kept), ..self }
    }

    /// A call that may have been carried out isn't made again.
    pub(super) fn once(self) -> Self {
        Self { repeatable: false, ..self }
    }

    /// # Errors
    /// [`CallFailed::HoldingLost`] when what the call is about is no longer there.
    pub(super) fn check(&self) -> Result<(), CallFailed> {
        self.about.map_or(Ok(()), Kept::check)
    }

    /// What goes along.
    ///
    /// # Errors
    /// [`CallFailed::Unsendable`] without room for the duplicate.
    pub(super) fn fds(&self) -> Result<Vec<OwnedFd>, CallFailed> {
        let fd = self.sends.map(|fd| fd.try_clone_to_owned()).transpose();
        let fd = fd.map_err(|source| CallFailed::Unsendable { method: C::METHOD, source })?;
        Ok(fd.into_iter().collect())
    }

    /// Learns from the daemon's answer whether what the call is about is still there.
    pub(super) fn learn(&self, answer: &CallError) {
        let CallError::Refusal(refusal) = answer else { return };
        let ended = matches!(
            refusal,
            Refusal::UnknownLease { .. } | Refusal::UnknownRegion { .. } | Refusal::NotYours { .. }
        );
        if let Some(kept) = self.about.filter(|_| ended) {
            kept.lose();
        }
    }
}
