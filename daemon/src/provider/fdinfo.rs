//! What the kernel says of a descriptor in `/proc/self/fdinfo`.

use std::{fs, os::fd::AsRawFd};

/// The value of the line that begins with `NAME:`; dma-bufs have `size`, `count`, `exp_name` and perhaps `name`
/// (`dma_buf_show_fdinfo` in drivers/dma-buf/dma-buf.c).
pub(super) fn field(fd: &impl AsRawFd, name: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}
