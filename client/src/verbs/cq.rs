//! Completion queues, and channels to sleep on until they have something.

use std::{
    ffi::c_int,
    os::fd::{AsFd, BorrowedFd},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use peermem_verbs_sys::{self as sys, inline};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::{
    Context, DeviceError, MemoryRegion,
    completion::{self, Completion},
    handle::{CloseError, Handle, check},
    number::{Qpn, WorkId},
    outstanding::Outstanding,
};
use crate::errno::Errno;

/// Why completions can't be had.
#[derive(Debug, Clone, Error)]
pub enum CompletionError {
    /// None came before the deadline.
    #[error("no completion before the deadline")]
    TimedOut,
    /// A call failed, which means that the device is gone or in a fatal state.
    #[error("{operation} failed; the device may be gone")]
    Operation {
        /// The verb or system call.
        operation: &'static str,
        /// What it said.
        source: Errno,
    },
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> CompletionError {
    move |source| CompletionError::Operation { operation, source }
}

/// A file descriptor that becomes readable when an armed completion queue gets an entry.
#[derive(Debug)]
pub struct CompletionChannel {
    handle: Handle<sys::ibv_comp_channel>,
    context: Arc<Context>,
}

impl CompletionChannel {
    /// A new one, non-blocking.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`].
    pub fn new(context: &Arc<Context>) -> Result<Arc<Self>, DeviceError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs.ibv_create_comp_channel)(context.handle.as_ptr()) };
        // SAFETY: the channel was just made and nobody else has it.
        let handle =
            unsafe { Handle::new("completion channel", raw, context.verbs.ibv_destroy_comp_channel) }
                .map_err(context.failed("ibv_create_comp_channel"))?;
        let channel = Arc::new(Self { handle, context: context.clone() });
        rustix::fs::fcntl_setfl(channel.as_fd(), rustix::fs::OFlags::NONBLOCK).map_err(|errno| {
            context.failed("set the channel non-blocking")(Errno::new(errno.raw_os_error()))
        })?;
        Ok(channel)
    }

    /// Takes one event, if there is one. Afterwards its queue must be armed again to cause another.
    ///
    /// # Errors
    ///
    /// [`CompletionError::Operation`].
    pub fn take_event(&self) -> Result<bool, CompletionError> {
        let verbs = self.context.verbs;
        let (mut cq, mut cq_context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the channel is live; both results may be written.
        let status =
            unsafe { (verbs.ibv_get_cq_event)(self.handle.as_ptr(), &raw mut cq, &raw mut cq_context) };
        if status != 0 {
            return match Errno::last() {
                errno if errno.name() == Some("EAGAIN") => Ok(false),
                errno => Err(failed("ibv_get_cq_event")(errno)),
            };
        }
        // Acknowledged at once: destroying the queue waits for every event that was taken.
        // SAFETY: a queue whose event was taken can't be destroyed before this acknowledgement.
        unsafe { (verbs.ibv_ack_cq_events)(cq, 1) };
        Ok(true)
    }

    /// Sleeps until the channel is readable; whether it is before the deadline.
    fn wait(&self, deadline: Instant) -> Result<bool, CompletionError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(errno) => Err(failed("poll")(Errno::new(errno.raw_os_error()))),
        }
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is live.
        let fd = unsafe { (*self.handle.as_ptr()).fd };
        // SAFETY: the fd belongs to the channel, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

/// A completion queue.
#[derive(Debug)]
pub struct CompletionQueue {
    pub(super) handle: Handle<sys::ibv_cq>,
    channel: Arc<CompletionChannel>,
    state: Mutex<State>,
}

/// What is outstanding on a completion queue.
#[derive(Debug)]
struct State {
    /// Entries not promised to a queue pair.
    free: u32,
    posted: Outstanding,
}

impl CompletionQueue {
    /// A queue with room for at least `entries`, whose events go to `channel`.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`]; `EINVAL` when the device hasn't as many entries.
    pub fn new(channel: &Arc<CompletionChannel>, entries: u32) -> Result<Arc<Self>, DeviceError> {
        let context = &channel.context;
        let count = c_int::try_from(entries).unwrap_or(c_int::MAX);
        let events = channel.handle.as_ptr();
        // SAFETY: context and channel are live, the context pointer is unused, and vector 0 always exists.
        let raw = unsafe {
            (context.verbs.ibv_create_cq)(context.handle.as_ptr(), count, ptr::null_mut(), events, 0)
        };
        // SAFETY: the queue was just made and nobody else has it.
        let handle = unsafe { Handle::new("completion queue", raw, context.verbs.ibv_destroy_cq) }
            .map_err(context.failed("ibv_create_cq"))?;
        let state = Mutex::new(State { free: entries, posted: Outstanding::default() });
        Ok(Arc::new(Self { handle, channel: channel.clone(), state }))
    }

    /// The channel that its events go to.
    pub fn channel(&self) -> &Arc<CompletionChannel> {
        &self.channel
    }

    /// Takes what is there, without waiting; returns how many were added to `completions`.
    ///
    /// # Errors
    ///
    /// [`CompletionError::Operation`].
    pub fn poll(&self, completions: &mut Vec<Completion>) -> Result<usize, CompletionError> {
        /// A device that completes faster than they are taken mustn't keep the caller here.
        const MOST: usize = 16;
        let before = completions.len();
        for _ in 0..MOST {
            if !self.take(completions)? {
                break;
            }
        }
        Ok(completions.len() - before)
    }

    /// Takes one entry, if there is one; whether there was. It adds nothing if nobody waits for it any more.
    ///
    /// One by one, since mostly there is none, and clearing room for many takes longer than a poll. Without the lock, which who polls all
    /// the time would keep from who posts.
    fn take(&self, completions: &mut Vec<Completion>) -> Result<bool, CompletionError> {
        let mut entry = sys::ibv_wc::zeroed();
        // SAFETY: the queue is live and there is room for one entry.
        match unsafe { inline::ibv_poll_cq(self.handle.as_ptr(), 1, &raw mut entry) } {
            0 => Ok(false),
            1 => {
                completions.extend(self.complete(&entry));
                Ok(true)
            }
            error => Err(failed("ibv_poll_cq")(Errno::new(error))),
        }
    }

    /// What an entry says of requests that somebody still waits for.
    fn complete(&self, entry: &sys::ibv_wc) -> Option<Completion> {
        let mut state = self.state();
        let (id, qpn) = if entry.status == sys::IBV_WC_SUCCESS {
            let posted = state.posted.take(entry.wr_id)?;
            (posted.id, posted.qpn)
        } else {
            let posted = state.posted.get(entry.wr_id).filter(|posted| !posted.failed)?;
            posted.failed = true;
            (posted.id, posted.qpn)
        };
        Some(completion::from_abi(entry, id, qpn))
    }

    /// Asks for an event at the next completion. Poll once more after arming: a completion in between causes none.
    ///
    /// # Errors
    ///
    /// [`CompletionError::Operation`].
    pub fn arm(&self) -> Result<(), CompletionError> {
        // SAFETY: the queue is live.
        check(unsafe { inline::ibv_req_notify_cq(self.handle.as_ptr(), 0) })
            .map_err(failed("ibv_req_notify_cq"))
    }

    /// Polls until there is a completion, and takes that one: the lowest latency, at the price of a core.
    ///
    /// # Errors
    ///
    /// [`CompletionError`].
    pub fn busy_wait(
        &self,
        completions: &mut Vec<Completion>,
        deadline: Instant,
    ) -> Result<(), CompletionError> {
        /// How many polls there are to a look at the clock, which takes longer than one.
        const POLLS: u32 = 64;
        // Neither a pause nor a yield between the polls: whoever polls has a core to itself, and gives it for every nanosecond of
        // latency. Where the core is emulated, a pause costs more than that: it leaves the emulated code. And a yield invites what moves
        // the bytes of a software device to this core, away from the one whose cache has them.
        let before = completions.len();
        loop {
            for _ in 0..POLLS {
                if self.take(completions)? && completions.len() > before {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(CompletionError::TimedOut);
            }
        }
    }

    /// Sleeps until there is a completion, after spinning for as long as a short transfer takes.
    ///
    /// # Errors
    ///
    /// [`CompletionError`].
    pub fn wait(&self, completions: &mut Vec<Completion>, deadline: Instant) -> Result<(), CompletionError> {
        /// A few round trips, and about what a sleep and a wake-up cost.
        const SPIN: Duration = Duration::from_micros(100);
        let asleep_from = deadline.min(Instant::now() + SPIN);
        while Instant::now() < asleep_from {
            if self.poll(completions)? > 0 {
                return Ok(());
            }
            // With soft-RoCE the transfer may need this very core.
            std::thread::yield_now();
        }
        loop {
            self.arm()?;
            if self.poll(completions)? > 0 {
                return Ok(());
            }
            if !self.channel.wait(deadline)? {
                return Err(CompletionError::TimedOut);
            }
            self.channel.take_event()?;
        }
    }

    /// Destroys the queue.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the kernel refuses.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.handle.close()
    }

    /// Sets entries aside for a queue pair, so that the queue can't overflow. `Err` is how many are free.
    pub(super) fn reserve(&self, entries: u32) -> Result<(), u32> {
        let mut state = self.state();
        state.free = state.free.checked_sub(entries).ok_or(state.free)?;
        Ok(())
    }

    /// Gives reserved entries back.
    pub(super) fn release(&self, entries: u32) {
        self.state().free += entries;
    }

    /// Notes requests that are about to be posted together; returns the number that the device shall see for them all.
    pub(super) fn note<'a>(
        &self,
        id: WorkId,
        qpn: Qpn,
        regions: impl IntoIterator<Item = &'a Arc<MemoryRegion>>,
    ) -> u64 {
        self.state().posted.note(id, qpn, regions)
    }

    /// Takes back requests that weren't posted after all.
    pub(super) fn retract(&self, number: u64) {
        self.state().posted.take(number);
    }

    /// Lets go of all that a destroyed queue pair had outstanding.
    pub(super) fn forget(&self, qpn: Qpn) {
        self.state().posted.forget(qpn);
    }

    /// The state stays consistent whatever a panicking thread was doing: every change is a single insertion or removal.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
