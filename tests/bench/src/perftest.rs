//! Perftest's programs (`ib_write_bw` and the like), on memory that the daemon serves.

use std::{
    fs,
    io::{Read, Seek},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    ctl::{self, DEPTH},
    memory::Memory,
    wait::until,
};

const PORT: u16 = 18515;
/// Longer than it takes until a server can begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program's last figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Megabytes a second.
    Bandwidth,
    /// The typical microseconds of a message.
    Latency,
}

/// Runs both ends of `program` and returns its figure. They lose each other now and then while they begin, on a busy machine.
pub(crate) fn measure(program: &str, figure: Figure, memory: &[Memory; 2], size: u64) -> Result<f64> {
    const ATTEMPTS: u32 = 3;
    for attempt in 1.. {
        match run(program, figure, memory, size) {
            Err(error) if attempt < ATTEMPTS => eprintln!("once more: {error:#}"),
            done => return done,
        }
    }
    bail!("{program} wasn't tried")
}

fn run(program: &str, figure: Figure, [from, to]: &[Memory; 2], size: u64) -> Result<f64> {
    let command = |memory: &Memory| -> Result<Command> {
        // It takes a buffer of two messages.
        memory.wait_for(2 * size)?;
        let mut command = Command::new(program);
        command.args(["--ib-dev=rxe0", "--CPU-freq", &format!("--port={PORT}"), &format!("--size={size}")]);
        command.arg(format!("--mmap={}", memory.file().display()));
        if memory.is_on_demand() {
            command.arg("--odp");
        }
        match figure {
            // By time, as ours: a few iterations would be measured from the first page fault on.
            Figure::Bandwidth => command.arg(format!("--tx-depth={DEPTH}")).arg("--duration=2"),
            // As many as take about as long as ours.
            Figure::Latency => command.arg(format!("--iters={}", ((32 << 20) / size).clamp(20, 1000))),
        };
        Ok(command)
    };
    let mut serving = command(to)?;
    let log = tempfile::tempfile()?;
    let mut server = Server(serving.stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()?);
    wait_for_listener()?;
    let report = ctl::succeed(command(from)?.arg("10.0.2.15")).inspect_err(|_| {
        let mut said = String::new();
        // Only to be told of.
        let _ = (&log).rewind().and_then(|()| (&log).read_to_string(&mut said));
        eprintln!("the server said: {said}");
    })?;
    server.0.wait()?;
    let line = report.lines().find(|line| line.split_whitespace().next() == Some(&size.to_string()));
    let fields: Vec<_> = line.with_context(|| report.clone())?.split_whitespace().collect();
    let (at, unit) = match figure {
        // Size, iterations, peak, average in MiB/s.
        Figure::Bandwidth => (3, 1.048_576),
        // Size, iterations, least, most, typical in us.
        Figure::Latency => (4, 1.0),
    };
    let figure: f64 = fields.get(at).with_context(|| report.clone())?.parse()?;
    Ok(figure * unit)
}

/// Killed if it isn't done.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_listener() -> Result<()> {
    let suffix = format!(":{PORT:04X}");
    until("perftest listens", PATIENCE, || {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        Ok(tables.iter().flatten().flat_map(|table| table.lines()).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.get(1).is_some_and(|local| local.ends_with(&suffix)) && fields.get(3) == Some(&"0A")
        }))
    })
}
