//! A few lines of the daemon's metrics.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const SHOWN: [&str; 4] =
    ["peermem_leases", "peermem_mappings_total", "peermem_region_leased_bytes", "peermem_regions"];

/// Fetches `/metrics` and prints the lines that tell what the demo did.
pub(crate) fn print(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("no metrics at {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    for line in answer.lines().filter(|line| SHOWN.iter().any(|name| line.starts_with(name))) {
        println!("  {line}");
    }
    Ok(())
}
