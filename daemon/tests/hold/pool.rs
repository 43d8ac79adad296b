//! A pool like the kernel's: first fit (`gen_pool_first_fit`), nothing zeroed, no owner known.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex},
};

use peermem_proto::ByteLen;
use peermemd::provider::p2pmem::{Memory, Pool, PoolError};

pub(crate) fn pages(count: usize) -> ByteLen {
    ByteLen::from_usize(count * rustix::param::page_size())
}

fn count(length: ByteLen) -> usize {
    length.to_usize().unwrap() / rustix::param::page_size()
}

/// What a page is.
#[derive(Debug, Clone, Copy)]
struct Page {
    taken: bool,
    /// What all its bytes are.
    byte: u8,
}

#[derive(Debug)]
struct Inside {
    pages: Vec<Page>,
    gone: bool,
    /// How many pages somebody takes right before the hold's next attempt.
    ambush: usize,
    stolen: Vec<Range<usize>>,
}

impl Inside {
    fn take(&mut self, wanted: usize) -> Option<Range<usize>> {
        let starts = 0..=self.pages.len().checked_sub(wanted)?;
        let run = starts.map(|start| start..start + wanted);
        let run = { run }.find(|run| self.pages[run.clone()].iter().all(|page| !page.taken))?;
        self.pages[run.clone()].iter_mut().for_each(|page| page.taken = true);
        Some(run)
    }

    fn give(&mut self, run: Range<usize>) {
        self.pages[run].iter_mut().for_each(|page| page.taken = false);
    }
}

/// The pool; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct FirstFit(Arc<Mutex<Inside>>);

impl FirstFit {
    /// A pool of pages that somebody used before.
    pub(crate) fn new(pages: usize) -> Self {
        let pages = vec![Page { taken: false, byte: 0xee }; pages];
        Self(Arc::new(Mutex::new(Inside { pages, gone: false, ambush: 0, stolen: Vec::new() })))
    }

    /// A client's mmap.
    pub(crate) fn map(&self, wanted: usize) -> Option<Run> {
        let pages = self.0.lock().unwrap().take(wanted)?;
        Some(Run { pool: self.clone(), pages })
    }

    /// How many pages are free.
    pub(crate) fn free(&self) -> usize {
        self.0.lock().unwrap().pages.iter().filter(|page| !page.taken).count()
    }

    /// Whether a client that maps what is free sees only zeroes.
    pub(crate) fn free_is_zero(&self) -> bool {
        self.0.lock().unwrap().pages.iter().all(|page| page.taken || page.byte == 0)
    }

    /// Somebody takes up to that many pages right before the hold's next attempt.
    pub(crate) fn ambush(&self, pages: usize) {
        self.0.lock().unwrap().ambush = pages;
    }

    /// They let go.
    pub(crate) fn free_stolen(&self) {
        let mut inside = self.0.lock().unwrap();
        inside.ambush = 0;
        for run in std::mem::take(&mut inside.stolen) {
            inside.give(run);
        }
    }

    /// The device is unplugged.
    pub(crate) fn unplug(&self) {
        self.0.lock().unwrap().gone = true;
    }

    fn check(&self) -> Result<(), PoolError> {
        if self.0.lock().unwrap().gone {
            return Err(PoolError::Gone(io::Error::from_raw_os_error(libc::ENODEV)));
        }
        Ok(())
    }
}

impl Pool for FirstFit {
    type Memory = Run;

    fn available(&self) -> Result<ByteLen, PoolError> {
        self.check().map(|()| pages(self.free()))
    }

    fn take(&self, length: ByteLen) -> Result<Option<Run>, PoolError> {
        self.check()?;
        assert!(!length.is_zero() && length.is_aligned(pages(1)), "mmap of {length}");
        let mut inside = self.0.lock().unwrap();
        for _ in 0..std::mem::take(&mut inside.ambush) {
            if let Some(page) = inside.take(1) {
                inside.pages[page.start].byte = 0xbb;
                inside.stolen.push(page);
            }
        }
        drop(inside);
        Ok(self.map(count(length)))
    }
}

/// Pages that somebody has.
#[derive(Debug)]
pub(crate) struct Run {
    pool: FirstFit,
    pages: Range<usize>,
}

impl Run {
    pub(crate) fn write(&mut self, byte: u8) {
        self.pool.0.lock().unwrap().pages[self.pages.clone()].iter_mut().for_each(|page| page.byte = byte);
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.pool.0.lock().unwrap().pages[self.pages.clone()].iter().all(|page| page.byte == 0)
    }
}

impl Memory for Run {
    fn length(&self) -> ByteLen {
        pages(self.pages.len())
    }

    fn split_off(&mut self, length: ByteLen) -> Option<Self> {
        let length = Some(length).filter(|length| length.is_aligned(pages(1))).map(count)?;
        if length == 0 || length >= self.pages.len() {
            return None;
        }
        let middle = self.pages.start + length;
        let front = Self { pool: self.pool.clone(), pages: self.pages.start..middle };
        self.pages.start = middle;
        Some(front)
    }

    fn zero(&mut self) -> Result<(), PoolError> {
        self.pool.check()?;
        self.write(0);
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.pool.0.lock().unwrap().give(self.pages.clone());
    }
}
