//! Queue pairs one work request at a time: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]
// Counting allocations takes an allocator.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use peermem::verbs::{
    Access, CompletionChannel, CompletionQueue, GidEntry, Memory, MemoryRegion, Mtu, Path, PostError,
    PreparedQueuePair, ProtectionDomain, QpDepth, QpError, QueuePair, RemoteTarget, Work, WorkId, WorkKind,
    WorkStatus,
};
use peermem_proto::ByteLen;
use peermem_scenarios::peers::{device, range, soon};

const DEPTH: QpDepth = QpDepth { send: 4, receive: 4 };

struct Pair {
    pd: Arc<ProtectionDomain>,
    queues: [Arc<CompletionQueue>; 2],
    near: QueuePair,
    far: QueuePair,
}

fn pair() -> Pair {
    let context = device();
    let pd = ProtectionDomain::new(&context).unwrap();
    // Room for all that any test posts: an overrun loses completions.
    let queues =
        [0; 2].map(|_| CompletionQueue::new(&CompletionChannel::new(&context).unwrap(), 1000).unwrap());
    let [near, far] = [0, 1].map(|side: usize| PreparedQueuePair::new(&pd, &queues[side], 1, DEPTH).unwrap());
    let gid = *GidEntry::preferred(&context.gids(1).unwrap()).unwrap();
    let path = Path { mtu: Mtu::Bytes4096, gid, global: true, reads_started: 1, reads_answered: 1 };
    let (near_address, far_address) = (near.address(gid.gid, 0), far.address(gid.gid, 0));
    let far = far.connect(&path, &near_address).unwrap();
    Pair { near: near.connect(&path, &far_address).unwrap(), far, queues, pd }
}

fn region(pd: &Arc<ProtectionDomain>) -> (Arc<Memory>, Arc<MemoryRegion>) {
    let memory = Arc::new(Memory::anonymous(ByteLen::new(8192)).unwrap());
    let region =
        MemoryRegion::pinned(pd, memory.clone(), Access::REMOTE_READ | Access::REMOTE_WRITE).unwrap();
    (memory, region)
}

#[test]
fn a_send_arrives_with_its_length_and_an_immediate_with_its_value() {
    let Pair { pd, queues: [near_queue, far_queue], near, far } = pair();
    let ((out, from), (inbox, to)) = (region(&pd), region(&pd));
    out.write(0, b"hello").unwrap();
    far.post_receive(WorkId(70), &to.slice(range(100, 64)).unwrap()).unwrap();
    near.post(WorkId(1), Work::Send { local: from.slice(range(0, 5)).unwrap() }).unwrap();
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    near_queue.wait(&mut sent, soon()).unwrap();
    far_queue.wait(&mut received, soon()).unwrap();
    assert_eq!((sent[0].id, sent[0].result.unwrap().kind), (WorkId(1), WorkKind::Send));
    let done = received[0].result.unwrap();
    assert_eq!((received[0].id, done.kind, done.byte_len), (WorkId(70), WorkKind::Receive, 5));
    let mut text = [0; 5];
    inbox.read(100, &mut text).unwrap();
    assert_eq!(&text, b"hello");

    far.post_receive(WorkId(71), &to.slice(range(0, 0)).unwrap()).unwrap();
    let target = RemoteTarget { address: to.iova() + 200, rkey: to.rkey() };
    let (local, immediate) = (from.slice(range(0, 5)).unwrap(), 0xfeed_beef);
    near.post(WorkId(2), Work::WriteImmediate { local, remote: target, immediate }).unwrap();
    far_queue.wait(&mut received, soon()).unwrap();
    let done = received[1].result.unwrap();
    assert_eq!((done.kind, done.immediate), (WorkKind::ReceiveWriteImmediate, Some(0xfeed_beef)));
}

#[test]
fn a_region_lives_until_its_completion_is_polled() {
    let Pair { pd, queues: [queue, _], near, far } = pair();
    let ((_, from), (_, to)) = (region(&pd), region(&pd));
    let weak = Arc::downgrade(&from);
    let target = RemoteTarget { address: to.iova(), rkey: to.rkey() };
    let local = from.slice(range(0, 4096)).unwrap();
    near.post(WorkId(1), Work::Write { local, remote: target }).unwrap();
    drop(from);
    assert!(weak.upgrade().is_some(), "dropped under the device");
    let mut completions = Vec::new();
    queue.busy_wait(&mut completions, soon()).unwrap();
    assert!(completions[0].result.is_ok());
    assert!(weak.upgrade().is_none(), "kept after the completion");

    // A receive that nobody answers is let go with its queue pair.
    let (_, offered) = region(&pd);
    let weak = Arc::downgrade(&offered);
    far.post_receive(WorkId(2), &offered.slice(range(0, 64)).unwrap()).unwrap();
    drop(offered);
    assert!(weak.upgrade().is_some());
    far.close().unwrap();
    assert!(weak.upgrade().is_none(), "kept after the queue pair");
}

#[test]
fn a_flushed_queue_pair_returns_what_was_posted() {
    let Pair { pd, queues: [_, queue], near: _near, far } = pair();
    let (_, offered) = region(&pd);
    far.post_receive(WorkId(9), &offered.slice(range(0, 64)).unwrap()).unwrap();
    assert!(far.is_ready().unwrap());
    far.flush().unwrap();
    assert!(!far.is_ready().unwrap());
    let mut completions = Vec::new();
    queue.wait(&mut completions, soon()).unwrap();
    assert_eq!(completions[0].id, WorkId(9));
    assert_eq!(completions[0].result.unwrap_err().status, WorkStatus::FLUSHED);
}

#[test]
fn what_can_be_known_to_fail_is_not_posted() {
    let Pair { pd, near, queues: _queues, far: _far } = pair();
    let (memory, readable) = region(&pd);
    let read_only = MemoryRegion::pinned(&pd, memory, Access::REMOTE_READ).unwrap();
    let target = RemoteTarget { address: readable.iova(), rkey: readable.rkey() };
    let local = read_only.slice(range(0, 8)).unwrap();
    let error = near.post(WorkId(1), Work::Read { local, remote: target }).unwrap_err();
    assert!(matches!(error, PostError::NotWritable), "{error:?}");

    let other = ProtectionDomain::new(pd.context()).unwrap();
    let (_, foreign) = region(&other);
    let error = near.post(WorkId(1), Work::Send { local: foreign.slice(range(0, 8)).unwrap() }).unwrap_err();
    assert!(matches!(error, PostError::OtherProtectionDomain), "{error:?}");

    assert!(readable.slice(range(8000, 193)).is_err());
    let small = CompletionQueue::new(&CompletionChannel::new(pd.context()).unwrap(), 8).unwrap();
    let _takes_it_all = PreparedQueuePair::new(&pd, &small, 1, DEPTH).unwrap();
    let error = PreparedQueuePair::new(&pd, &small, 1, DEPTH).unwrap_err();
    assert!(matches!(error, QpError::CompletionQueueFull { free: 0, needed: 8 }), "{error:?}");
}

#[test]
fn a_batch_has_one_completion_and_keeps_every_region_until_then() {
    let Pair { pd, queues: [queue, _], near, far: _far } = pair();
    let ((_, first), (_, second), (_, to)) = (region(&pd), region(&pd), region(&pd));
    let regions = [&first, &second].map(Arc::downgrade);
    let batch = [first, second].map(|from| Work::Write {
        local: from.slice(range(0, 4096)).unwrap(),
        remote: RemoteTarget { address: to.iova(), rkey: to.rkey() },
    });
    near.post_batch(WorkId(3), &batch).unwrap();
    drop(batch);
    assert!(regions.iter().all(|region| region.upgrade().is_some()), "dropped under the device");
    let mut completions = Vec::new();
    queue.wait(&mut completions, soon()).unwrap();
    assert_eq!(queue.poll(&mut completions).unwrap(), 0);
    assert_eq!((completions.len(), completions[0].id), (1, WorkId(3)));
    assert!(regions.iter().all(|region| region.upgrade().is_none()), "kept after the completion");
}

#[test]
fn more_than_the_depth_is_refused_and_all_that_was_taken_completes() {
    let Pair { pd, queues: [queue, _], near, far: _far } = pair();
    let ((_, from), (_, to)) = (region(&pd), region(&pd));
    let slice = from.slice(range(0, 8192)).unwrap();
    let target = RemoteTarget { address: to.iova(), rkey: to.rkey() };
    let mut taken = 0;
    for id in 0..1000 {
        match near.post(WorkId(id), Work::Write { local: slice.clone(), remote: target }) {
            Ok(()) => taken += 1,
            Err(PostError::Refused(_)) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!((4..1000).contains(&taken), "{taken} of 1000 were taken at a depth of 4");
    let mut completions = Vec::new();
    while completions.len() < taken {
        queue.wait(&mut completions, soon()).unwrap();
    }
    assert!(completions.iter().all(|completion| completion.result.is_ok()));
    let ids: Vec<u64> = completions.iter().map(|completion| completion.id.0).collect();
    assert!(ids.is_sorted(), "completions came out of order: {ids:?}");
}

/// The system's allocator, which counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator keeps the promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn posting_and_polling_allocate_nothing() {
    let Pair { pd, queues: [queue, _], near, far: _far } = pair();
    let ((_, from), (_, to)) = (region(&pd), region(&pd));
    let remote = RemoteTarget { address: to.iova(), rkey: to.rkey() };
    let mut completions = Vec::with_capacity(16);
    let mut write = |batch: bool| {
        let works = [0, 64].map(|at| Work::Write { local: from.slice(range(at, 64)).unwrap(), remote });
        let before = ALLOCATIONS.get();
        if batch {
            near.post_batch(WorkId(1), &works).unwrap();
        } else {
            let [work, _] = works;
            near.post(WorkId(1), work).unwrap();
        }
        queue.wait(&mut completions, soon()).unwrap();
        completions.clear();
        ALLOCATIONS.get() - before
    };
    // The queue's table of what is outstanding grows at first.
    (0..8).for_each(|_| {
        write(true);
    });
    assert_eq!((0..200).map(|_| write(false)).sum::<usize>(), 0);
    assert_eq!((0..200).map(|_| write(true)).sum::<usize>(), 0);
    assert_ne!(ALLOCATIONS.get(), 0, "nothing was counted");
}
