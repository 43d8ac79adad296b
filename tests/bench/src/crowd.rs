//! A thousand clients at once, each mapping and unmapping without a pause, beside one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peermem_bench::{Goal, Row};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use std::os::fd::OwnedFd;

use crate::{
    client::Client,
    daemon::Daemon,
    machine::raise_descriptor_limit,
    stats::{Sorted, median, micros},
};

const CLIENTS: usize = 1000;
/// The sides take turns so often, each for so long.
const ROUNDS: usize = 8;
const TURN: Duration = Duration::from_millis(1000);

pub(crate) fn run() -> Result<()> {
    raise_descriptor_limit()?;
    let daemon = Daemon::start()?;
    let mut one = Crowd::new(&daemon, 1)?;
    let mut many = Crowd::new(&daemon, CLIENTS)?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(one.run()?);
        together.push(many.run()?);
    }
    let rates = |turns: &[Turn]| median(turns.iter().map(Turn::rate).collect());
    let of =
        |hundredths| median(together.iter().map(|turn| micros(turn.took.percentile(hundredths))).collect());
    let fewest = many.members.iter().map(|member| member.count).min().unwrap_or_default();
    let all: u32 = many.members.iter().map(|member| member.count).sum();

    Row::new("map + unmap by 1,000 clients", rates(&together), "a second")
        .against("one client", rates(&alone))
        .goal(Goal::AtLeast(1.0))
        .print();
    Row::new("99 of 100 took at most", of(99) / 1e3, "ms")
        .against("median", of(50) / 1e3)
        .goal(Goal::AtMost(20.0))
        .print();
    Row::new("calls of the client that had the fewest", f64::from(fewest), "calls")
        .against("mean", f64::from(all) / many.members.len() as f64)
        .goal(Goal::AtLeast(0.5))
        .print();
    Ok(())
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
