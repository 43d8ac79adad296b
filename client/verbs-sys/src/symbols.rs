//! The functions of `libibverbs.so.1`, found at run time.

use core::ffi::{c_char, c_int, c_uint, c_void};
use std::{fmt, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::{
    __be64, ibv_async_event, ibv_comp_channel, ibv_context, ibv_cq, ibv_device, ibv_device_attr, ibv_gid,
    ibv_gid_entry, ibv_mr, ibv_pd, ibv_port_attr, ibv_qp, ibv_qp_attr, ibv_qp_init_attr, ibv_wc_status,
};

/// The library's name with its ABI version, as rdma-core has installed it since its first release.
const LIBRARY: &str = "libibverbs.so.1";

/// Why verbs can't be used in this process.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The dynamic linker found no usable library.
    #[error(
        "{LIBRARY} can't be loaded; install rdma-core's library and drivers \
         (Debian, Ubuntu: apt install libibverbs1 ibverbs-providers; Fedora, RHEL: dnf install libibverbs)"
    )]
    Library(#[source] libloading::Error),
    /// The library is there, without a function that every rdma-core since version 15 has.
    #[error("{LIBRARY} lacks {name}; it needs rdma-core 15 or newer")]
    Symbol {
        /// The missing function.
        name: &'static str,
        /// What the dynamic linker said.
        source: libloading::Error,
    },
}

/// Declares the table of functions. `optional` ones are `None` where rdma-core is older than they are.
macro_rules! functions {
    (
        $(fn $name:ident($($argument:ty),*) $(-> $result:ty)?;)*
        $(optional fn $optional:ident($($opt_argument:ty),*) $(-> $opt_result:ty)?;)*
    ) => {
        /// The functions of libibverbs. Their contracts are those of their manual pages.
        pub struct Verbs {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $(pub $optional: Option<unsafe extern "C" fn($($opt_argument),*) $(-> $opt_result)?>,)*
            /// Keeps the library mapped: the pointers above lead into it.
            _scope: Scope,
        }

        impl Verbs {
            fn resolve(scope: Scope) -> Result<Self, LoadError> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the test `abi` compares this signature with the header's.
                        let found = unsafe { scope.find(stringify!($name)) };
                        found.map_err(|source| LoadError::Symbol { name: stringify!($name), source })?
                    },)*
                    $($optional: {
                        // SAFETY: as above.
                        let found = unsafe { scope.find(stringify!($optional)) };
                        found.ok()
                    },)*
                    _scope: scope,
                })
            }
        }

        #[cfg(test)]
        pub(crate) const SIGNATURES: &[(&str, &str)] = &[
            $((stringify!($name), stringify!(unsafe extern "C" fn($($argument),*) $(-> $result)?)),)*
            $((stringify!($optional), stringify!(unsafe extern "C" fn($($opt_argument),*) $(-> $opt_result)?)),)*
        ];
    };
}

functions! {
    fn ibv_get_device_list(*mut c_int) -> *mut *mut ibv_device;
    fn ibv_free_device_list(*mut *mut ibv_device);
    fn ibv_get_device_name(*mut ibv_device) -> *const c_char;
    fn ibv_get_device_guid(*mut ibv_device) -> __be64;
    fn ibv_open_device(*mut ibv_device) -> *mut ibv_context;
    fn ibv_close_device(*mut ibv_context) -> c_int;
    fn ibv_query_device(*mut ibv_context, *mut ibv_device_attr) -> c_int;
    fn ibv_query_port(*mut ibv_context, u8, *mut _compat_ibv_port_attr) -> c_int;
    fn ibv_query_gid(*mut ibv_context, u8, c_int, *mut ibv_gid) -> c_int;
    fn ibv_get_async_event(*mut ibv_context, *mut ibv_async_event) -> c_int;
    fn ibv_ack_async_event(*mut ibv_async_event);
    fn ibv_alloc_pd(*mut ibv_context) -> *mut ibv_pd;
    fn ibv_dealloc_pd(*mut ibv_pd) -> c_int;
    fn ibv_reg_mr(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    fn ibv_dereg_mr(*mut ibv_mr) -> c_int;
    fn ibv_create_comp_channel(*mut ibv_context) -> *mut ibv_comp_channel;
    fn ibv_destroy_comp_channel(*mut ibv_comp_channel) -> c_int;
    fn ibv_create_cq(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
    fn ibv_destroy_cq(*mut ibv_cq) -> c_int;
    fn ibv_get_cq_event(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
    fn ibv_ack_cq_events(*mut ibv_cq, c_uint);
    fn ibv_create_qp(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
    fn ibv_modify_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    fn ibv_query_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int, *mut ibv_qp_init_attr) -> c_int;
    fn ibv_destroy_qp(*mut ibv_qp) -> c_int;
    fn ibv_wc_status_str(ibv_wc_status) -> *const c_char;

    optional fn ibv_reg_mr_iova2(*mut ibv_pd, *mut c_void, usize, u64, c_uint) -> *mut ibv_mr;
    optional fn ibv_reg_dmabuf_mr(*mut ibv_pd, u64, usize, u64, c_int, c_int) -> *mut ibv_mr;
    optional fn _ibv_query_gid_ex(*mut ibv_context, u32, u32, *mut ibv_gid_entry, u32, usize) -> c_int;
    optional fn _ibv_query_gid_table(*mut ibv_context, *mut ibv_gid_entry, usize, u32, usize) -> isize;
}

/// What the exported `ibv_query_port` writes: an older, shorter [`ibv_port_attr`]. The inline function in
/// [`crate::inline`] is the one to call.
pub type _compat_ibv_port_attr = ibv_port_attr;

impl Verbs {
    /// The functions, loading the library at the first call. The outcome holds for the life of the process.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where libibverbs is absent or too old.
    pub fn get() -> Result<&'static Self, &'static LoadError> {
        static VERBS: OnceLock<Result<Verbs, LoadError>> = OnceLock::new();
        VERBS.get_or_init(|| Self::resolve(Scope::open()?)).as_ref()
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LIBRARY)
    }
}

/// Where symbols are looked up.
struct Scope {
    global: Library,
    library: Library,
}

impl Scope {
    fn open() -> Result<Self, LoadError> {
        // SAFETY: libibverbs' constructors only set up its own state. RTLD_GLOBAL adds its symbols, all prefixed
        // `ibv_`, to the global scope, behind those already there.
        let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) };
        Ok(Self { library: library.map_err(LoadError::Library)?, global: Library::this() })
    }

    /// Looks `name` up in the process's global scope, then in the library itself.
    ///
    /// A handle's own scope would skip whatever was preloaded in front of the library. Interposing verbs is ordinary
    /// (tracers, fault injection, a shim that adds a verb that a driver lacks), and a program linked against libibverbs
    /// would see the interposed function; one that opens the library at run time has to see the same.
    ///
    /// # Safety
    ///
    /// `F` is the function pointer type of `name`.
    unsafe fn find<F: Copy>(&self, name: &str) -> Result<F, libloading::Error> {
        // SAFETY: the caller vouches for the type.
        let symbol = unsafe { self.global.get::<F>(name) };
        match symbol {
            Ok(symbol) => Ok(*symbol),
            // SAFETY: the caller vouches for the type.
            Err(_) => unsafe { self.library.get::<F>(name) }.map(|symbol| *symbol),
        }
    }
}
