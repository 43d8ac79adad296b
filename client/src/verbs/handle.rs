//! Owning pointers to the objects of libibverbs.

use std::{ffi::c_int, fmt, ptr::NonNull};

use thiserror::Error;

use crate::errno::Errno;

/// An object couldn't be destroyed. It leaks, and so do its parents: that is the only safe thing left.
#[derive(Debug, Clone, Copy, Error)]
#[error("{what} can't be destroyed")]
pub struct CloseError {
    what: &'static str,
    #[source]
    errno: Errno,
}

/// An object of libibverbs, destroyed exactly once.
pub(super) struct Handle<T> {
    raw: NonNull<T>,
    what: &'static str,
    destroy: unsafe extern "C" fn(*mut T) -> c_int,
    /// What destroying it said, once that was tried.
    closed: Option<Result<(), CloseError>>,
}

// SAFETY: libibverbs' objects may be used and destroyed from any thread, and by several at once: its providers lock
// them (ibv_open_device(3): "all verbs are thread safe"). This crate never asks for single-threaded ones.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// Takes ownership of what a creating call returned; null becomes the error in `errno`.
    ///
    /// # Safety
    ///
    /// `raw` is null or owned by the caller, and `destroy` is the function that ends it.
    pub(super) unsafe fn new(
        what: &'static str,
        raw: *mut T,
        destroy: unsafe extern "C" fn(*mut T) -> c_int,
    ) -> Result<Self, Errno> {
        let raw = NonNull::new(raw).ok_or_else(Errno::last)?;
        Ok(Self { raw, what, destroy, closed: None })
    }

    /// The pointer, valid as long as this handle lives.
    pub(super) fn as_ptr(&self) -> *mut T {
        self.raw.as_ptr()
    }

    /// Destroys the object; a second call only repeats what the first one said.
    pub(super) fn close(&mut self) -> Result<(), CloseError> {
        if let Some(outcome) = self.closed {
            return outcome;
        }
        // SAFETY: the object is live and owned, and as `closed` was empty until now, this happens once.
        let status = unsafe { (self.destroy)(self.raw.as_ptr()) };
        let outcome = check(status).map_err(|errno| CloseError { what: self.what, errno });
        self.closed = Some(outcome);
        outcome
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:p}", self.what, self.raw)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        if self.closed.is_none()
            && let Err(error) = self.close()
        {
            tracing::warn!(%error, cause = %error.errno, "leaked");
        }
    }
}

/// Most verbs return 0 or a positive error number; a few old ones -1 with `errno` set.
pub(super) fn check(status: c_int) -> Result<(), Errno> {
    match status {
        0 => Ok(()),
        -1 => Err(Errno::last()),
        number => Err(Errno::new(number)),
    }
}
