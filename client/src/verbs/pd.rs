//! Protection domains: which memory regions which queue pairs may touch.

use std::sync::Arc;

use peermem_proto::{ByteLen, Method};
use peermem_verbs_sys as sys;

use super::{
    Context, DeviceError, RegisterError,
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
    pub fn supports_dmabuf(&self) -> bool {
        self.check_dmabuf().is_ok()
    }

    /// As [`supports_dmabuf`](Self::supports_dmabuf), with the reason where they can't.
    ///
    /// Asked the conventional way, by registering fd -1: layers that support it get as far as the fd and say `EBADF`.
    ///
    /// # Errors
    ///
    /// What registering any dma-buf would end with.
    pub fn check_dmabuf(&self) -> Result<(), RegisterError> {
        const PAGE: usize = 4096;
        let register = self.context.verbs.ibv_reg_dmabuf_mr.ok_or(RegisterError::DmabufTooNew)?;
        let access = sys::IBV_ACCESS_LOCAL_WRITE.cast_signed();
        // SAFETY: the domain is live, and no memory is named.
        let raw = unsafe { register(self.handle.as_ptr(), 0, PAGE, 0, -1, access) };
        let errno = Errno::last();
        if raw.is_null() && errno.name() == Some("EBADF") {
            return Ok(());
        }
        Err(RegisterError::explain(self.context.name(), Method::Dmabuf, ByteLen::from_usize(PAGE), errno))
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
