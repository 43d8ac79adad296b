//! Profile `old-kernel`: doctor names what this kernel lacks, and the kernel that brings it.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_scenarios::doctor::Diagnosis;

#[test]
fn what_an_old_kernel_lacks_is_named_with_what_brings_it() {
    let doctor = Diagnosis::with("");
    doctor.says("kernel-p2pdma", "warn", &["CONFIG_PCI_P2PDMA"]);
    doctor.says("kernel-vfio-dmabuf", "warn", &["older than 6.19", "run Linux 6.19 or newer"]);
    doctor.says("rdma-on-demand", "warn", &["no on-demand paging", "rdma_rxe since Linux 6.15"]);
    doctor.says("rdma-dmabuf", "warn", &["dma-buf"]);
}
