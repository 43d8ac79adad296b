//! A thousand clients at once, each mapping and unmapping without a pause, beside one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peermem_bench::{Goal, Row, median};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use std::os::fd::OwnedFd;

use crate::{
    client::Client,
    daemon::Daemon,
    machine::{move_to, pin_to_one_core, raise_descriptor_limit},
    stats::{Sorted, millis},
};

const CLIENTS: usize = 1000;
/// The sides take turns so often, each for so long.
const ROUNDS: usize = 8;
const TURN: Duration = Duration::from_millis(1000);

pub(crate) fn run() -> Result<()> {
    raise_descriptor_limit()?;
    let other_cores = pin_to_one_core()?;
    let daemon = Daemon::start()?;
    let mut sides = Sides { one: Crowd::new(&daemon, 1)?, many: Crowd::new(&daemon, CLIENTS)? };
    let beside = sides.measure()?;
    beside.rates("map + unmap by 1,000 clients").print();
    beside.latencies().print();
    let counts: Vec<_> = sides.many.members.iter().map(|member| member.count).collect();
    let fewest = counts.iter().min().copied().unwrap_or_default();
    Row::new("calls of the client that had the fewest", f64::from(fewest), "calls")
        .against("mean", f64::from(counts.iter().sum::<u32>()) / counts.len() as f64)
        .goal(Goal::AtLeast(0.5))
        .print();
    if other_cores.count() == 0 {
        eprintln!("there is one core only, so the daemon can't have one of its own");
        return Ok(());
    }
    move_to(&other_cores)?;
    sides.measure()?.rates("the same, the daemon on a core of its own").print();
    Ok(())
}

/// One client and many, of the same daemon.
struct Sides {
    one: Crowd,
    many: Crowd,
}

/// The turns of either.
struct Turns {
    alone: Vec<Turn>,
    together: Vec<Turn>,
}

impl Sides {
    fn measure(&mut self) -> Result<Turns> {
        let mut turns = Turns { alone: Vec::new(), together: Vec::new() };
        for _ in 0..ROUNDS {
            turns.alone.push(self.one.run()?);
            turns.together.push(self.many.run()?);
        }
        Ok(turns)
    }
}

impl Turns {
    fn rates(&self, what: &str) -> Row {
        let rates = |turns: &[Turn]| turns.iter().map(Turn::rate).collect::<Vec<_>>();
        let [together, alone] = [&self.together, &self.alone].map(|turns| rates(turns));
        Row::in_turns(what, &together, "a second", "one client", &alone).goal(Goal::AtLeast(1.0))
    }

    fn latencies(&self) -> Row {
        let of = |hundredths| {
            let each = self.together.iter().map(|turn| millis(turn.took.percentile(hundredths)));
            median(each.collect())
        };
        let row = Row::new("99 of 100 took at most", of(99), "ms");
        row.against("median", of(50)).goal(Goal::AtMost(20.0))
    }
}

/// Clients that one thread looks after.
struct Crowd {
    epoll: OwnedFd,
    members: Vec<Member>,
}

struct Member {
    client: Client,
    /// When its latest mapping began.
    began: Instant,
    /// What it waits for.
    awaits: Reply,
    /// Maps and unmaps that are done.
    count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Nothing,
    Mapped,
    Unmapped,
}

/// What a turn brought.
struct Turn {
    took: Sorted,
    over: Duration,
}

impl Turn {
    fn rate(&self) -> f64 {
        self.took.len() as f64 / self.over.as_secs_f64()
    }
}

impl Crowd {
    fn new(daemon: &Daemon, count: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut members = Vec::with_capacity(count);
        for number in 0..count {
            let client = Client::connect(&daemon.socket())?;
            client.never_wait()?;
            epoll::add(&epoll, &client, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            members.push(Member { client, began: Instant::now(), awaits: Reply::Nothing, count: 0 });
        }
        Ok(Self { epoll, members })
    }

    /// Lets all of them go on for a turn, then waits until each is done.
    fn run(&mut self) -> Result<Turn> {
        let began = Instant::now();
        let mut took = Vec::new();
        for member in &mut self.members {
            member.begin()?;
        }
        let mut busy = self.members.len();
        let mut events = Vec::with_capacity(256);
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        while busy > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience))?;
            anyhow::ensure!(!events.is_empty(), "{busy} clients hear nothing for {} s", patience.tv_sec);
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let member = self.members.get_mut(number).context("an event of nobody")?;
                if let Some(duration) = member.go_on()? {
                    took.push(duration);
                    if began.elapsed() < TURN {
                        member.begin()?;
                    } else {
                        busy -= 1;
                    }
                }
            }
        }
        Ok(Turn { took: Sorted::new(took), over: began.elapsed() })
    }
}

impl Member {
    fn begin(&mut self) -> Result<()> {
        self.began = Instant::now();
        self.awaits = Reply::Mapped;
        Ok(self.client.begin_map()?)
    }

    /// Takes a reply: when it was the last of a map and an unmap, how long they took.
    fn go_on(&mut self) -> Result<Option<Duration>> {
        match self.client.receive() {
            Ok(_memory) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if self.awaits == Reply::Mapped {
            self.client.begin_unmap(self.client.lease()?)?;
            self.awaits = Reply::Unmapped;
            return Ok(None);
        }
        self.client.reply()?;
        self.awaits = Reply::Nothing;
        self.count += 1;
        Ok(Some(self.began.elapsed()))
    }
}
