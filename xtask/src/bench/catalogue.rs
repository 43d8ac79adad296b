//! Which benchmarks there are.

use std::fmt;

/// A benchmark: a program that prints rows ([`peermem_bench::Row`]).
#[derive(Debug)]
pub(super) struct Benchmark {
    /// Its name, also that of its files.
    pub(super) name: &'static str,
    /// What it measures, in a line.
    pub(super) about: &'static str,
    /// Where it runs, and what.
    pub(super) place: Place,
}

/// Where a benchmark runs, and what.
#[derive(Debug)]
pub(super) enum Place {
    /// On this machine: `peermem-bench` with this subcommand, in the release profile.
    Host(&'static str),
    /// In a guest: these commands, for bash. Its programs are of the release profile too: they stand beside others that are
    /// optimised as a whole.
    Guest {
        /// Which guest.
        profile: &'static str,
        /// What to run.
        commands: &'static str,
    },
}

impl Place {
    pub(super) fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(_) => f.write_str("this machine"),
            Self::Guest { profile, .. } => write!(f, "guest {profile}, under software emulation"),
        }
    }
}

/// Starts the daemon, with room in the drives' buffers for programs that have no leases, and runs that subcommand; with
/// `gpu` so that soft-RoCE takes dma-bufs, with `dax` so that the daemon serves two device DAXes.
macro_rules! guest {
    (dax $subcommand:literal) => {
        concat!(
            "chown peermem /dev/dax0.0 /dev/dax1.0\n",
            "mkdir -p /etc/peermemd\n",
            "for dax in dax0.0 dax1.0; do printf '[[dax.region]]\ndevice = \"%s\"\nname = \"%s\"\n' $dax $dax; done > /etc/peermemd/peermemd.toml\n",
            "systemctl start peermemd\n",
            "/usr/libexec/peermem-tests/peermem-bench ",
            $subcommand
        )
    };
    (gpu $subcommand:literal) => {
        concat!("export LD_PRELOAD=/usr/lib/peermem-tests/librxe_dmabuf.so\n", guest!($subcommand))
    };
    ($subcommand:literal) => {
        concat!(
            "mkdir -p /etc/peermemd\n",
            "printf '[p2pmem]\\nleave = \"24MiB\"\\n[registered]\\nexporters = [\"peermem_testgpu\"]\\n' > /etc/peermemd/peermemd.toml\n",
            "systemctl start peermemd\n",
            "/usr/libexec/peermem-tests/peermem-bench ",
            $subcommand
        )
    };
}

/// All of them, in the order in which they run.
pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "round-trip",
        about: "map and unmap by one client, beside a bare ping-pong of the same bytes",
        place: Place::Host("round-trip"),
    },
    Benchmark { name: "crowd", about: "a thousand clients at once, beside one", place: Place::Host("crowd") },
    Benchmark {
        name: "lease-table",
        about: "what 100,000 leases cost those who come after",
        place: Place::Host("lease-table"),
    },
    Benchmark {
        name: "restart",
        about: "from the start to READY, with and without a full journal",
        place: Place::Host("restart"),
    },
    Benchmark {
        name: "footprint",
        about: "memory and size of a daemon that has nothing to do",
        place: Place::Host("footprint"),
    },
    Benchmark {
        name: "mr-cache",
        about: "a memory region from the client's cache, beside a registration",
        place: Place::Guest { profile: "switch", commands: guest!("mr-cache") },
    },
    Benchmark {
        name: "write",
        about: "writes between the buffers of two drives through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "switch", commands: guest!("transfers write") },
    },
    Benchmark {
        name: "read",
        about: "reads between the buffers of two drives through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "switch", commands: guest!("transfers read") },
    },
    Benchmark {
        name: "send",
        about: "sends between the buffers of two drives through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "switch", commands: guest!("transfers send") },
    },
    Benchmark {
        name: "write-dax",
        about: "writes between two device DAXes through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "dax-pair", commands: guest!(dax "transfers write --between dax") },
    },
    Benchmark {
        name: "read-dax",
        about: "reads between two device DAXes through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "dax-pair", commands: guest!(dax "transfers read --between dax") },
    },
    Benchmark {
        name: "send-dax",
        about: "sends between two device DAXes through leases, beside perftest on the same memory",
        place: Place::Guest { profile: "dax-pair", commands: guest!(dax "transfers send --between dax") },
    },
    Benchmark {
        name: "bounce",
        about: "between the buffers of two drives directly, beside the same through host memory",
        place: Place::Guest { profile: "switch", commands: guest!("bounce") },
    },
    Benchmark {
        name: "bounce-gpu",
        about: "from a drive's buffer to the GPU's memory directly, beside the same through host memory",
        place: Place::Guest { profile: "switch", commands: guest!(gpu "bounce-gpu") },
    },
    Benchmark {
        name: "relay",
        about: "from a drive through another one's buffer to a peer's GPU, beside host memory",
        place: Place::Guest { profile: "switch", commands: guest!(gpu "relay") },
    },
    Benchmark {
        name: "steady-state",
        about: "what the daemon does while two clients transfer",
        place: Place::Guest { profile: "switch", commands: guest!("steady-state") },
    },
];
