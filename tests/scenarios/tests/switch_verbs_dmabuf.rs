//! dma-buf regions over soft-RoCE, with the test GPU's memory: profile `switch`, as root, one test at a time, with the
//! preload library that gives soft-RoCE dma-buf registration.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::Arc,
};

use peermem::{
    rdma::{EndpointConfig, Operation, TransferError},
    verbs::{Access, DmabufRange, Memory, MemoryRegion, ProtectionDomain, RegisterError},
};
use peermem_proto::{ByteLen, Method};
use peermem_scenarios::peers::{Peers, Side, device, in_words, range};
use peermem_testgpu::TestGpu;

const LEN: u64 = 4 << 20;
const ACCESS: fn() -> Access = || Access::REMOTE_READ | Access::REMOTE_WRITE;

/// GPU memory, as a dma-buf.
fn allocate(size: u64) -> OwnedFd {
    TestGpu::open().unwrap().alloc(size).unwrap()
}

/// The whole buffer, registered at an address that has nothing to do with where the CPU sees it.
fn register(pd: &Arc<ProtectionDomain>, fd: &OwnedFd, iova: u64) -> Result<Arc<MemoryRegion>, RegisterError> {
    MemoryRegion::dmabuf(pd, fd.as_fd(), DmabufRange { range: range(0, LEN), iova }, ACCESS(), ())
}

fn side(pd: &Arc<ProtectionDomain>, iova: u64) -> Side {
    let fd = allocate(LEN);
    let memory = Arc::new(Memory::shared(fd.as_fd(), 0, ByteLen::new(LEN)).unwrap());
    Side { region: register(pd, &fd, iova).unwrap(), memory }
}

#[test]
fn gpu_memory_moves_byte_for_byte_at_any_offset() {
    let mut peers = Peers::connect(&EndpointConfig::default());
    let gpu = side(&peers.pd, 0x10_0000_0000);
    let other = side(&peers.pd, 0);
    let host = Side::host(&peers.pd, ByteLen::new(LEN), Method::Pinned);
    assert_eq!(gpu.region.method(), Method::Dmabuf);
    for operation in [Operation::Write, Operation::Read] {
        for there in [&other, &host] {
            for (near, far, len) in [(0, 0, 8), (4095, 1, 4097), (513, 77, 70_001), (0, 0, LEN)] {
                peers.check(operation, (&gpu, near), (there, far), len).unwrap();
            }
        }
    }
}

#[test]
fn a_part_of_a_buffer_is_registered_by_its_offset() {
    let mut peers = Peers::connect(&EndpointConfig::default());
    let fd = allocate(LEN);
    let memory = Arc::new(Memory::shared(fd.as_fd(), 8192, ByteLen::new(65_536)).unwrap());
    let part = DmabufRange { range: range(8192, 65_536), iova: 0x2000 };
    let region = MemoryRegion::dmabuf(&peers.pd, fd.as_fd(), part, ACCESS(), ()).unwrap();
    let there = Side { memory, region };
    let here = Side::host(&peers.pd, ByteLen::new(65_536), Method::Pinned);
    peers.check(Operation::Write, (&here, 5), (&there, 9), 60_000).unwrap();
}

#[test]
fn gpu_memory_to_on_demand_memory_keeps_to_pages() {
    let mut peers = Peers::connect(&EndpointConfig::default());
    let gpu = side(&peers.pd, 0);
    let host = Side::host(&peers.pd, ByteLen::new(LEN), Method::OnDemand);
    peers.check(Operation::Write, (&gpu, 100), (&host, 4096), 100_001).unwrap();
    let error = peers.check(Operation::Write, (&gpu, 0), (&host, 100), 4096).unwrap_err();
    assert!(matches!(error, TransferError::Unaligned(_)), "{error:?}");
}

#[test]
fn what_is_no_dma_buf_or_does_not_line_up_is_refused() {
    let pd = ProtectionDomain::new(&device()).unwrap();
    assert!(pd.supports_dmabuf());
    let fd = allocate(LEN);
    let error = register(&pd, &fd, 0x10).unwrap_err();
    assert!(matches!(error, RegisterError::Misaligned { .. }), "{error:?}");
    let error = register(&pd, &OwnedFd::from(File::open("/proc/self/exe").unwrap()), 0).unwrap_err();
    assert!(matches!(error, RegisterError::NotADmabuf(_)), "{error:?}");
    let beyond = DmabufRange { range: range(LEN, 4096), iova: 0 };
    let error = MemoryRegion::dmabuf(&pd, fd.as_fd(), beyond, ACCESS(), ()).unwrap_err();
    assert!(matches!(error, RegisterError::NotADmabuf(_)), "{error:?}");
}

#[test]
fn a_gpu_reset_ends_transfers_with_an_error() {
    let mut peers = Peers::connect(&EndpointConfig::default());
    let gpu = side(&peers.pd, 0);
    let host = Side::host(&peers.pd, ByteLen::new(LEN), Method::Pinned);
    peers.check(Operation::Write, (&host, 0), (&gpu, 0), 4096).unwrap();
    let control = TestGpu::open().unwrap();
    assert_eq!(control.info().unwrap().memory_regions, 1);
    control.reset().unwrap();
    let remote = peers.far.describe(&gpu.whole()).unwrap();
    let error = peers.transfer(Operation::Write, &host.whole(), &remote, 0).unwrap_err();
    assert!(matches!(error, TransferError::Work { .. }), "{error:?}");
    // The reset is the GPU's doing, not the connection's: new memory over a new connection works.
    let mut peers = Peers::connect(&EndpointConfig::default());
    let (gpu, host) = (side(&peers.pd, 0), Side::host(&peers.pd, ByteLen::new(LEN), Method::Pinned));
    peers.check(Operation::Read, (&host, 0), (&gpu, 0), 4096).unwrap();
}

/// Stock soft-RoCE has no dma-buf registration: that is what the preload library adds.
#[test]
fn a_driver_without_dma_bufs_is_named() {
    const ALONE: &str = "PEERMEM_WITHOUT_PRELOAD";
    if std::env::var_os(ALONE).is_none() {
        let arguments = ["--exact", "a_driver_without_dma_bufs_is_named"];
        let mut again = Command::new(std::env::current_exe().unwrap());
        // Its output is a test report of its own, which must not end up inside this one's.
        let output = again.args(arguments).env_remove("LD_PRELOAD").env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let pd = ProtectionDomain::new(&device()).unwrap();
    assert!(!pd.supports_dmabuf());
    let error = register(&pd, &allocate(LEN), 0).unwrap_err();
    let text = in_words(&error);
    assert!(matches!(error, RegisterError::Unsupported { .. }), "{error:?}");
    assert!(text.contains("rxe0") && text.contains("dma-buf"), "{text}");
}
