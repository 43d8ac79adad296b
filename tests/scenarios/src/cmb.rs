//! Memory of the drives' Controller Memory Buffers, taken from the kernel's allocator without a daemon.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use peermem::verbs::{Memory, MemoryError};
use peermem_proto::ByteLen;

/// The `p2pmem/allocate` files of all devices that have one, in the order of their PCI addresses.
///
/// # Panics
///
/// Without any: the guest was made with three.
pub fn allocators() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/sys/bus/pci/devices")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("p2pmem/allocate"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no PCI device has p2pmem");
    found
}

/// Fresh memory of the `index`-th device.
///
/// # Panics
///
/// When the device or the memory isn't there.
pub fn memory(index: usize, len: ByteLen) -> Arc<Memory> {
    memory_of(&allocators()[index], len)
}

/// Fresh memory from this allocator.
///
/// # Panics
///
/// When the memory isn't there.
pub fn memory_of(allocator: &Path, len: ByteLen) -> Arc<Memory> {
    let file = fs::File::options().read(true).write(true).open(allocator);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", allocator.display()));
    Arc::new(
        Memory::shared(file.as_fd(), 0, len)
            .unwrap_or_else(|error| panic!("{}: {error}", allocator.display())),
    )
}

/// That the kernel's allocator had no more.
///
/// # Panics
///
/// On any other error.
pub fn assert_no_memory(error: &MemoryError) {
    let MemoryError::Map { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("ENOMEM"), "{source}");
}
