//! The two ends, and one measurement between them.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

use anyhow::{Context, Error, Result, anyhow};
use peermem::{
    Client,
    proto::{ByteLen, Direction, RegionName, region::Shape},
    rdma::{Endpoint, EndpointConfig, Messages, Operation, Pipeline, RemoteRegion, Waiting, exchange},
    verbs::{MrSlice, Mtu},
};
use peermem_doctor::recommendation::Way;

use super::{
    Leg, Plan,
    flow::{Flow, Mover, flow},
    host::{Bounced, HostBuffers, Staging},
    report::{Pair, Row},
    two_sided::{Answered, Sent, stop},
};
use crate::{
    cli::{Bench, BenchOperation, Memory},
    commands::{
        map,
        verify::{
            bytes::{compare, fill},
            call,
            drive::{ask, front},
            end::{Met, Prepared, Registered},
            receive::{Buffers, Front, Receiver, messages},
            serve::serve,
            talk::{Introduction, Request, deadline},
        },
    },
    failure::Usage,
};

/// This end, and the way to the other.
pub(super) struct Ends {
    operation: BenchOperation,
    stream: TcpStream,
    memory: Registered,
    ours: Introduction,
    theirs: Introduction,
    path_mtu: Mtu,
    link: Link,
    /// The other end, if it is in this process.
    far: Option<JoinHandle<Result<()>>>,
    /// Seeds used so far.
    seeds: u64,
}

/// What moves the bytes.
enum Link {
    /// Reads or writes, and host memory of both ends where they are to bounce through it.
    OneSided(Endpoint, Operation, Option<Host>),
    /// Sends, and where they come from.
    TwoSided(Messages, Box<dyn Buffers>),
}

struct Host {
    near: Staging,
    far: Staging,
    remote: RemoteRegion,
}

impl Ends {
    /// Leases both regions, or the one of this end, and connects.
    pub(super) fn open(client: &Client, args: &Bench, leg: &Leg) -> Result<Self> {
        let (longest, bounces) = (leg.longest(), leg.ways.contains(&Way::Bounced));
        let operation = match args.operation {
            BenchOperation::Write => Some(Operation::Write),
            BenchOperation::Read => Some(Operation::Read),
            BenchOperation::Send => None,
        };
        // One-sided work needs host memory that the other end reaches; sends need some of each end's own.
        let staged_sends = (bounces && operation.is_none()).then_some(longest);
        let (near, far) = regions(args)?;
        let near = prepare(client, args, near)?;
        let (stream, far, staged) = match (far, &args.connect) {
            (Some(region), None) => {
                let far = prepare(client, args, region)?;
                let listener =
                    TcpListener::bind("127.0.0.1:0").context("no port of this machine's is free")?;
                let address = listener.local_addr()?;
                let (stage, staged) = mpsc::channel();
                let far = thread::spawn(move || {
                    let stream = listener.accept()?.0;
                    stream.set_nodelay(true)?;
                    let Met { memory, endpoint, .. } = far.meet(&stream)?;
                    if bounces && operation.is_some() {
                        let pd = memory.region.protection_domain();
                        let staging = Staging::new(pd, memory.mapping.clone(), longest)?;
                        let remote = staging.describe(&endpoint)?;
                        // Where nobody waits for it, this end is told so by the stream.
                        let _ = stage.send((staging, remote));
                    }
                    let buffers = buffers(&memory, staged_sends)?;
                    let mut receiver = Receiver::new(endpoint, buffers);
                    serve(&stream, &*memory.mapping, &mut receiver)?;
                    drop(receiver);
                    memory.give_back()
                });
                (call(&address.to_string())?, Some(far), Some(staged))
            }
            (None, Some(address)) => (call(address)?, None, None),
            _ => return Err(Usage("give either both --from and --to, or --connect".to_owned()).into()),
        };
        let Met { memory, endpoint, ours, theirs } = near.meet(&stream)?;
        let path_mtu = endpoint.path_mtu();
        let link = if let Some(operation) = operation {
            let host = match staged.filter(|_| bounces) {
                None => None,
                Some(staged) => {
                    let Ok((there, remote)) = staged.recv() else {
                        return Err(of_the_other_end(stream, far, anyhow!("it has no host memory to give")));
                    };
                    let pd = memory.region.protection_domain();
                    let near = Staging::new(pd, memory.mapping.clone(), longest)?;
                    Some(Host { near, far: there, remote })
                }
            };
            Link::OneSided(endpoint, operation, host)
        } else {
            if let Err(error) = ask(&stream, &Request::PostReceives) {
                return Err(of_the_other_end(stream, far, error));
            }
            let buffers = buffers(&memory, staged_sends)?;
            Link::TwoSided(messages(endpoint, &*buffers, &stream)?, buffers)
        };
        let operation = args.operation;
        Ok(Self { operation, stream, memory, ours, theirs, path_mtu, link, far, seeds: 0 })
    }

    /// Measures one size one way.
    pub(super) fn measure(&mut self, plan: &Plan, way: Way, size: ByteLen) -> Result<Row> {
        let theirs = self.theirs.remote.length();
        if size > theirs || size > self.memory.region.len() {
            return Err(anyhow!("the leases are shorter than that: the other end's is {theirs}"));
        }
        let length = size.to_usize().context("more than the address space")?;
        // Never used again: what an earlier measurement left behind can't pass for this one's bytes.
        let (seed, before) = (self.seeds + 1, self.seeds + 2);
        self.seeds += 2;
        let (stream, here) = (&self.stream, &*self.memory.mapping);
        let (ours, other) = match self.operation {
            BenchOperation::Write | BenchOperation::Send => (seed, before),
            BenchOperation::Read => (before, seed),
        };
        fill(here, ours, length)?;
        ask(stream, &Request::Fill { seed: other, length })?;
        let latency = self.flow(plan, way, size, 1, true)?;
        let bandwidth = self.flow(plan, way, size, plan.depth, false)?;
        let (stream, here) = (&self.stream, &*self.memory.mapping);
        let there = Request::Compare { seed, length, before };
        let is_right = match self.operation {
            BenchOperation::Write => ask(stream, &there)?.is_none(),
            BenchOperation::Read => compare(here, seed, length, before)?.is_none(),
            // What came back is what went there.
            BenchOperation::Send => {
                ask(stream, &there)?.is_none() && compare(here, seed, length, seed)?.is_none()
            }
        };
        Ok(Row::new(way, size, &latency, &bandwidth, is_right))
    }

    /// Lets messages flow, as many at a time as `depth` says or there is room for. What is sent is `answered` by as much.
    fn flow(&mut self, plan: &Plan, way: Way, size: ByteLen, depth: u32, answered: bool) -> Result<Flow> {
        let (local, remote) = (front(&self.memory.region, size)?, &self.theirs.remote);
        match (&mut self.link, way) {
            (Link::OneSided(endpoint, operation, host), way) => {
                // Where both ways are compared, both have what host memory has room for.
                let room = host.as_ref().map_or(u32::MAX, |host| host.near.slots(size));
                let depth = depth.min(endpoint.depth()).min(room);
                let pipeline = endpoint.pipeline(*operation);
                match (way, host) {
                    (Way::Direct, _) => flow(plan, depth, Direct { pipeline, local, remote }),
                    (Way::Bounced, None) => Err(anyhow!("only ends of one process bounce")),
                    (Way::Bounced, Some(Host { near, far, remote })) => {
                        let (source, target) = match operation {
                            Operation::Write => (&*near, &*far),
                            Operation::Read => (&*far, &*near),
                        };
                        flow(plan, depth, Bounced { pipeline, near, remote, source, target, size })
                    }
                }
            }
            (Link::TwoSided(messages, buffers), _) => {
                let poll = plan.waiting == Waiting::Polling;
                ask(&self.stream, &Request::Receive { answer: answered, poll })?;
                let depth = depth.min(messages.depth());
                let buffers = &mut **buffers;
                let sent = Sent { messages: &mut *messages, buffers: &mut *buffers, size };
                let seen =
                    if answered { flow(plan, depth, Answered(sent)) } else { flow(plan, depth, sent) }?;
                stop(Sent { messages, buffers, size }, plan.waiting)?;
                Ok(seen)
            }
        }
    }

    /// Ends both ends, and gives what is to be told of them.
    pub(super) fn close(self, failed: Option<&Error>) -> Result<Pair> {
        let Self { operation, stream, memory, ours, theirs, path_mtu, link, far, .. } = self;
        let last = match failed {
            None => Request::Done { transfers: Vec::new() },
            Some(error) => Request::GiveUp { why: format!("{error:#}") },
        };
        let told = exchange::send(&stream, &last, deadline());
        drop(link);
        memory.give_back()?;
        let far =
            far.map_or(Ok(()), |far| far.join().unwrap_or_else(|_| Err(anyhow!("the other end panicked"))));
        if failed.is_none() {
            told?;
            far?;
        }
        Ok(Pair { operation, ours, theirs, path_mtu })
    }
}

/// Why the other end has gone: what it says itself if it was in this process, and else `seen` from here.
fn of_the_other_end(stream: TcpStream, far: Option<JoinHandle<Result<()>>>, seen: Error) -> Error {
    // It may still be waiting for a request.
    drop(stream);
    let said = far.and_then(|far| far.join().ok()).and_then(Result::err);
    said.unwrap_or(seen).context("the other end failed")
}

/// Straight between the leases.
struct Direct<'a> {
    pipeline: Pipeline<'a>,
    local: MrSlice,
    remote: &'a RemoteRegion,
}

impl Mover for Direct<'_> {
    fn has_room(&self) -> bool {
        self.pipeline.has_room()
    }

    fn begin(&mut self, _number: u64) -> Result<()> {
        Ok(self.pipeline.start(self.local.clone(), self.remote, ByteLen::ZERO)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.pipeline.flush()?)
    }

    fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32> {
        Ok(self.pipeline.wait(waiting, deadline)?)
    }
}

/// Where this end's messages are: in host memory for such of that length, or in the lease itself.
fn buffers(memory: &Registered, bounced: Option<ByteLen>) -> Result<Box<dyn Buffers>> {
    let pd = memory.region.protection_domain();
    Ok(match bounced {
        Some(size) => Box::new(HostBuffers::new(pd, &memory.mapping, size)?),
        None => Box::new(Front(memory.region.clone())),
    })
}

/// This end's region, and the other's if that is here too.
fn regions(args: &Bench) -> Result<(&RegionName, Option<&RegionName>), Usage> {
    let (near, far, option) = match args.operation {
        BenchOperation::Write | BenchOperation::Send => (&args.from, &args.to, "--from"),
        BenchOperation::Read => (&args.to, &args.from, "--to"),
    };
    match (near, far, &args.connect) {
        (Some(near), Some(far), None) => Ok((near, Some(far))),
        (Some(near), None, Some(_)) => Ok((near, None)),
        (_, _, Some(_)) => Err(Usage(format!(
            "with --connect this end's region is {option}, and the other end names the other"
        ))),
        _ => Err(Usage("name both regions, by --from and --to".to_owned())),
    }
}

fn prepare(client: &Client, args: &Bench, name: &RegionName) -> Result<Prepared> {
    let regions = client.regions()?;
    let region = regions.iter().find(|region| region.name == *name);
    let region =
        region.with_context(|| format!("no region is named {name}: `peermemctl regions` lists them"))?;
    let longest = args.sizes.longest();
    // A page behind it, where strays would be seen.
    let wanted =
        longest.saturating_add(region.alignment).get().next_multiple_of(region.alignment.get().max(1));
    let memory = Memory {
        size: Some(ByteLen::new(wanted).min(region.size)),
        offset: (region.shape == Shape::Window).then_some(ByteLen::ZERO),
        initiators: args.initiator.iter().cloned().collect(),
    };
    let request = map::request(client, name, &memory, Direction::Bidirectional)?;
    // Endpoints round down to whole pages of any size.
    let max_message = ByteLen::new(longest.get().next_multiple_of(1 << 16));
    // One more than are under way, and as many while the other end hasn't been told of those that are posted again.
    let receives = args.depth.saturating_mul(2).max(EndpointConfig::default().receives);
    let config = EndpointConfig { depth: args.depth, receives, max_message, ..EndpointConfig::default() };
    Prepared::new(client, &request, config)
}
