//! The dozen functions of `libhsa-runtime64.so.1` that this takes, found when the program runs (hsa.h, hsa_ext_amd.h).
#![allow(unsafe_code, reason = "a C library that may not be there")]

use std::{
    ffi::{c_int, c_void},
    os::fd::{FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Context as _, Result, ensure};
use libloading::Library;
use peermem::proto::{ByteLen, PciAddress};

type Status = c_int;
/// An agent or a memory pool.
type Handle = u64;
type Callback = unsafe extern "C" fn(Handle, *mut c_void) -> Status;

/// `HSA_STATUS_INFO_BREAK`: a callback has seen enough.
const BREAK: Status = 1;
/// `HSA_AGENT_INFO_DEVICE`, and `HSA_DEVICE_TYPE_GPU`
const DEVICE: (c_int, c_int) = (17, 1);
/// `HSA_AMD_AGENT_INFO_BDFID`, `HSA_AMD_AGENT_INFO_DOMAIN`
const BDF: c_int = 0xa006;
const DOMAIN: c_int = 0xa00f;
/// `HSA_AMD_MEMORY_POOL_INFO_SEGMENT`, and `HSA_AMD_SEGMENT_GLOBAL`
const SEGMENT: (c_int, c_int) = (0, 0);
/// `HSA_AMD_MEMORY_POOL_INFO_GLOBAL_FLAGS`, and `.._COARSE_GRAINED`: the GPU's own memory.
const FLAGS: (c_int, u32) = (1, 4);

macro_rules! functions {
    ($($field:ident: $name:literal ($($argument:ty),*);)*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Functions {
            fn find(library: &Library) -> Result<Self> {
                Ok(Self {
                    // SAFETY: the type is that of the function of this name in the headers.
                    $($field: *unsafe { library.get(concat!($name, "\0")) }
                        .context(concat!("ROCm is too old: libhsa-runtime64 has no ", $name))?,)*
                })
            }
        }
    };
}

functions! {
    init: "hsa_init"();
    shut_down: "hsa_shut_down"();
    iterate_agents: "hsa_iterate_agents"(Callback, *mut c_void);
    agent_info: "hsa_agent_get_info"(Handle, c_int, *mut c_void);
    iterate_pools: "hsa_amd_agent_iterate_memory_pools"(Handle, Callback, *mut c_void);
    pool_info: "hsa_amd_memory_pool_get_info"(Handle, c_int, *mut c_void);
    allocate: "hsa_amd_memory_pool_allocate"(Handle, usize, u32, *mut *mut c_void);
    free: "hsa_amd_memory_pool_free"(*mut c_void);
    export: "hsa_amd_portable_export_dmabuf"(*const c_void, usize, *mut c_int, *mut u64);
}

/// The runtime.
pub(crate) struct Hsa {
    functions: Functions,
    // The functions are its.
    _library: Library,
}

/// A GPU, and the pool of its own memory.
pub(crate) struct Gpu<'a> {
    hsa: &'a Hsa,
    pool: Handle,
    address: PciAddress,
}

/// Memory of a GPU.
pub(crate) struct Memory<'a> {
    hsa: &'a Hsa,
    at: *mut c_void,
    size: usize,
}

/// What a callback collects.
unsafe extern "C" fn collect(found: Handle, all: *mut c_void) -> Status {
    // SAFETY: `all` is what `handles` passed: a list that nobody else uses during the call.
    unsafe { &mut *all.cast::<Vec<Handle>>() }.push(found);
    0
}

impl Hsa {
    /// Loads the runtime.
    pub(crate) fn load() -> Result<Self> {
        // SAFETY: the library is made to be loaded at any time; loading it runs no more than its constructors.
        let library = unsafe { Library::new("libhsa-runtime64.so.1") }
            .context("libhsa-runtime64.so.1 isn't found: it comes with ROCm (Debian: libhsa-runtime64-1)")?;
        let hsa = Self { functions: Functions::find(&library)?, _library: library };
        // SAFETY: the call has no precondition; `drop` is its counterpart.
        check("hsa_init", unsafe { (hsa.functions.init)() })
            .context("the runtime finds no device: is amdgpu loaded, and may this user open /dev/kfd?")?;
        Ok(hsa)
    }

    /// The first GPU that has memory of its own.
    pub(crate) fn first_gpu(&self) -> Result<Gpu<'_>> {
        let mut agents = Vec::<Handle>::new();
        // SAFETY: `collect` is called during this call only, with the list.
        let iterated = unsafe { (self.functions.iterate_agents)(collect, (&raw mut agents).cast()) };
        check("hsa_iterate_agents", iterated)?;
        for agent in agents {
            if self.agent::<c_int>(agent, DEVICE.0)? != DEVICE.1 {
                continue;
            }
            let mut pools = Vec::<Handle>::new();
            // SAFETY: as above.
            let iterated = unsafe { (self.functions.iterate_pools)(agent, collect, (&raw mut pools).cast()) };
            check("hsa_amd_agent_iterate_memory_pools", iterated)?;
            for pool in pools {
                if self.pool::<c_int>(pool, SEGMENT.0)? == SEGMENT.1
                    && self.pool::<u32>(pool, FLAGS.0)? & FLAGS.1 != 0
                {
                    return Ok(Gpu { hsa: self, pool, address: self.address(agent)? });
                }
            }
        }
        anyhow::bail!("no GPU with memory of its own among the runtime's agents")
    }

    fn address(&self, agent: Handle) -> Result<PciAddress> {
        let (domain, bdf) = (self.agent::<u32>(agent, DOMAIN)?, self.agent::<u32>(agent, BDF)?);
        let [.., bus, devfn] = bdf.to_be_bytes();
        PciAddress::new(domain, bus, devfn >> 3, devfn & 7).context("the GPU has no PCI address")
    }

    /// One number about an agent; `T` is the type that the header gives for it.
    fn agent<T: Default>(&self, agent: Handle, what: c_int) -> Result<T> {
        let mut value = T::default();
        // SAFETY: the call writes one value of the type that the header gives, which `T` is.
        check("hsa_agent_get_info", unsafe {
            (self.functions.agent_info)(agent, what, (&raw mut value).cast())
        })?;
        Ok(value)
    }

    /// The same about a pool.
    fn pool<T: Default>(&self, pool: Handle, what: c_int) -> Result<T> {
        let mut value = T::default();
        // SAFETY: as for agents.
        let asked = unsafe { (self.functions.pool_info)(pool, what, (&raw mut value).cast()) };
        check("hsa_amd_memory_pool_get_info", asked)?;
        Ok(value)
    }
}

fn check(call: &str, status: Status) -> Result<()> {
    ensure!(status == 0 || status == BREAK, "{call}: HSA status {status:#x}");
    Ok(())
}

impl Gpu<'_> {
    pub(crate) fn address(&self) -> PciAddress {
        self.address
    }

    pub(crate) fn allocate(&self, size: ByteLen) -> Result<Memory<'_>> {
        let size = size.to_usize().context("more than this process can address")?;
        let mut at = ptr::null_mut();
        // SAFETY: the call writes one pointer; no flags are defined.
        let allocated = unsafe { (self.hsa.functions.allocate)(self.pool, size, 0, &raw mut at) };
        check("hsa_amd_memory_pool_allocate", allocated)?;
        Ok(Memory { hsa: self.hsa, at, size })
    }
}

impl Memory<'_> {
    /// All of it as a dma-buf.
    pub(crate) fn export(&self) -> Result<OwnedFd> {
        let (mut fd, mut offset) = (-1, 0);
        // SAFETY: the call writes a descriptor and an offset.
        let exported =
            unsafe { (self.hsa.functions.export)(self.at, self.size, &raw mut fd, &raw mut offset) };
        check("hsa_amd_portable_export_dmabuf", exported)?;
        ensure!(fd >= 0, "hsa_amd_portable_export_dmabuf gave no descriptor");
        // SAFETY: the call has opened it for its caller.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // A region is all of a dma-buf: what lies before the allocation would be everyone's too.
        ensure!(
            offset == 0,
            "the allocation begins {offset} bytes into its dma-buf: ask for a multiple of 2 MiB"
        );
        Ok(fd)
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: it was allocated, and nobody has freed it.
        if let Err(error) = check("hsa_amd_memory_pool_free", unsafe { (self.hsa.functions.free)(self.at) }) {
            eprintln!("{error}");
        }
    }
}

impl Drop for Hsa {
    fn drop(&mut self) {
        // SAFETY: the counterpart of `hsa_init`; after a failed one it only returns an error.
        unsafe { (self.functions.shut_down)() };
    }
}
