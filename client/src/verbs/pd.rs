//! Protection domains: which memory regions which queue pairs may touch.

use std::sync::Arc;

use peermem_verbs_sys as sys;

use super::{
    Context, DeviceError,
    handle::{CloseError, Handle},
};
use crate::errno::Errno;

/// A protection domain.
#[derive(Debug)]
pub struct ProtectionDomain {
    pub(super) handle: Handle<sys::ibv_pd>,
    pub(super) context: Arc<Context>,
}

impl ProtectionDomain {
    /// A new one, without members.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`].
    pub fn new(context: &Arc<Context>) -> Result<Arc<Self>, DeviceError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs.ibv_alloc_pd)(context.handle.as_ptr()) };
        // SAFETY: the domain was just made and nobody else has it.
        let handle = unsafe { Handle::new("protection domain", raw, context.verbs.ibv_dealloc_pd) }
            .map_err(context.failed("ibv_alloc_pd"))?;
        Ok(Arc::new(Self { handle, context: context.clone() }))
    }

    /// The device it is on.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Whether kernel, driver and libibverbs can make memory regions of dma-bufs.
    ///
    /// Asked the conventional way, by registering fd -1: layers that support it get as far as the fd and say `EBADF`.
    pub fn supports_dmabuf(&self) -> bool {
        let Some(register) = self.context.verbs.ibv_reg_dmabuf_mr else {
            return false;
        };
        let access = sys::IBV_ACCESS_LOCAL_WRITE.cast_signed();
        // SAFETY: the domain is live, and no memory is named.
        let raw = unsafe { register(self.handle.as_ptr(), 0, 4096, 0, -1, access) };
        raw.is_null() && Errno::last().name() == Some("EBADF")
    }

    /// Frees the domain.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the kernel refuses.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.handle.close()
    }
}
