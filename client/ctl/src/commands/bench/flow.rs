//! A flow of messages, for as long as it is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use peermem::rdma::Waiting;
use rustix::time::{ClockId, clock_gettime};

use super::Plan;

/// How long a message that has begun may take beyond the measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen of a flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// How many messages were under way at a time, at most.
    pub(super) depth: u32,
    pub(super) messages: u64,
    pub(super) elapsed: Duration,
    /// CPU time of this process; the kernel's threads that a software device works in are not in it.
    pub(super) cpu: Duration,
    /// Nanoseconds from a start to the next one's, one message at a time.
    pub(super) latency: Histogram<u64>,
}

/// How messages are moved. `number` counts them from 0.
pub(super) trait Mover {
    /// How many messages go one after the other until one is finished here.
    const HOPS: u32 = 1;

    /// Whether another one may be begun.
    fn has_room(&self) -> bool;
    /// Begins one.
    fn begin(&mut self, number: u64) -> Result<()>;
    /// Leaves none of those that were begun to wait for others.
    fn flush(&mut self) -> Result<()>;
    /// Waits until the device has moved some, or until there may be room for more; returns how many it has moved.
    fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32>;
    /// What is left to do once the device has moved one.
    fn end(&mut self, _number: u64) -> Result<()> {
        Ok(())
    }
}

/// Keeps `depth` messages under way until the time is over, and waits for the last ones.
pub(super) fn flow<M: Mover>(plan: &Plan, depth: u32, mut mover: M) -> Result<Flow> {
    let (began, cpu) = (Instant::now(), cpu());
    let (stop, deadline) = (began + plan.duration, began + plan.duration + PATIENCE);
    let longest = u64::try_from((plan.duration + PATIENCE).as_nanos())?;
    let mut latency = Histogram::new_with_bounds(1, longest, 3).context("no room for a histogram")?;
    let (mut begun, mut ended, mut finished) = (0_u64, 0_u64, 0_u32);
    let mut last = began;
    loop {
        while begun - ended < u64::from(depth) && last < stop && mover.has_room() {
            mover.begin(begun)?;
            begun += 1;
        }
        mover.flush()?;
        // From one start to the next, as perftest has it: while nothing is under way, nothing is to be noted.
        let now = Instant::now();
        if depth == 1 && finished > 0 {
            let one = (now - last) / M::HOPS;
            latency.saturating_record(u64::try_from(one.as_nanos()).unwrap_or(u64::MAX));
        }
        last = now;
        if begun == ended && last >= stop {
            break;
        }
        finished = mover.wait(plan.waiting, deadline)?;
        for _ in 0..finished {
            mover.end(ended)?;
            ended += 1;
        }
    }
    let cpu = self::cpu().saturating_sub(cpu);
    Ok(Flow { depth, messages: ended, elapsed: last - began, cpu, latency })
}

/// CPU time that this process has used.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    // The clock counts up from zero.
    let [secs, nanos] = [spent.tv_sec, spent.tv_nsec].map(|part| u64::try_from(part).unwrap_or_default());
    Duration::from_secs(secs) + Duration::from_nanos(nanos)
}
