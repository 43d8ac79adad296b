//! Sends into receives that were posted ahead: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs, thread};

use peermem::rdma::{EndpointConfig, Messages, MessagesError, TransferError, Waiting, pattern};
use peermem_proto::{ByteLen, Method};
use peermem_scenarios::peers::{DEVICE, Peers, Side, in_words, soon, streams};

const PAGE: u64 = 4096;
/// A message's receive, and the page behind it.
const SLOT: u64 = 4 * PAGE;

/// One end: its messages, and the memory that they arrive in, a slot a receive.
struct End {
    messages: Messages,
    inbox: Side,
}

/// Two ends with `counts` receives, in memory of `method`.
fn ends(counts: [u32; 2], method: Method) -> ([End; 2], Side) {
    let config = EndpointConfig { depth: 16, receives: 64, ..EndpointConfig::default() };
    let Peers { pd, near, far } = Peers::connect(&config);
    let outbox = Side::host(&pd, ByteLen::new(1 << 20), method);
    let inboxes = counts.map(|count| Side::host(&pd, ByteLen::new(SLOT * u64::from(count)), method));
    let slots = inboxes.each_ref().map(|inbox| {
        let count = inbox.region.len().get() / SLOT;
        (0..count).map(|slot| inbox.slice(slot * SLOT, SLOT - PAGE)).collect::<Vec<_>>()
    });
    let ([near_slots, far_slots], [a, b]) = (slots, streams());
    let far = thread::spawn(move || Messages::new(far, far_slots, &b, soon()).unwrap());
    let near = Messages::new(near, near_slots, &a, soon()).unwrap();
    let messages = [near, far.join().unwrap()];
    let mut inboxes = inboxes.into_iter();
    (messages.map(|messages| End { messages, inbox: inboxes.next().unwrap() }), outbox)
}

/// How often the device was told that there is no receive, and told so.
fn missing_receives() -> u64 {
    let folder = format!("/sys/class/infiniband/{DEVICE}/ports/1/hw_counters");
    let count = |name: &str| -> u64 {
        fs::read_to_string(format!("{folder}/{name}")).unwrap().trim().parse().unwrap()
    };
    count("rcvd_rnr_err") + count("send_rnr_err")
}

/// A message's length: no two in a row are alike.
fn length(number: u64) -> u64 {
    [1, PAGE, PAGE + 1, SLOT - PAGE, 0][usize::try_from(number % 5).unwrap()]
}

/// Takes `count` messages, of which each must be the one that was sent then.
fn take_all(End { messages, inbox }: &mut End, count: u64, waiting: Waiting) {
    let mut taken = 0;
    while taken < count {
        let Some(message) = messages.take() else {
            messages.wait(waiting, soon()).unwrap();
            continue;
        };
        let (expected, at) = (length(taken), message.receive() * usize::try_from(SLOT).unwrap());
        assert_eq!(message.length().get(), expected, "message {taken}");
        let mut found = vec![0; usize::try_from(expected).unwrap()];
        inbox.memory.read(at, &mut found).unwrap();
        assert_eq!(found, pattern::bytes(taken % 7, found.len()), "message {taken}");
        messages.give_back(message).unwrap();
        taken += 1;
    }
}

/// Seven messages' bytes, one behind the other.
fn fill(outbox: &Side) {
    for seed in 0..7 {
        let at = usize::try_from(seed * SLOT).unwrap();
        outbox.memory.write(at, &pattern::bytes(seed, usize::try_from(SLOT).unwrap())).unwrap();
    }
}

/// Starts as many of the messages from `sent` on as there is room for; returns which is next.
fn send_some(messages: &mut Messages, outbox: &Side, mut sent: u64, count: u64) -> u64 {
    while sent < count && messages.has_room() {
        messages.send(outbox.slice((sent % 7) * SLOT, length(sent))).unwrap();
        sent += 1;
    }
    sent
}

/// Sends `count` messages, and waits until they are gone.
fn send_all(messages: &mut Messages, outbox: &Side, count: u64, waiting: Waiting) {
    let (mut sent, mut gone) = (0, 0);
    while gone < count {
        sent = send_some(messages, outbox, sent, count);
        gone += u64::from(messages.wait(waiting, soon()).unwrap());
    }
    assert_eq!(gone, count);
}

#[test]
fn every_message_arrives_whole_and_in_order_and_finds_a_receive() {
    const COUNT: u64 = 700;
    for (method, waiting) in [(Method::OnDemand, Waiting::Asleep), (Method::Pinned, Waiting::Polling)] {
        let ([mut near, mut far], outbox) = ends([4, 9], method);
        fill(&outbox);
        let before = missing_receives();
        thread::scope(|scope| {
            scope.spawn(|| take_all(&mut far, COUNT, waiting));
            send_all(&mut near.messages, &outbox, COUNT, waiting);
        });
        assert_eq!(missing_receives(), before);
    }
}

#[test]
fn both_ends_send_at_once_and_neither_waits_for_ever() {
    const COUNT: u64 = 500;
    let (mut ends, outbox) = ends([4, 4], Method::OnDemand);
    fill(&outbox);
    let (before, outbox) = (missing_receives(), &outbox);
    thread::scope(|scope| {
        for End { messages, inbox } in &mut ends {
            scope.spawn(move || {
                let (mut sent, mut gone, mut taken) = (0, 0, 0);
                while gone < COUNT || taken < COUNT {
                    sent = send_some(messages, outbox, sent, COUNT);
                    while let Some(message) = messages.take() {
                        let (expected, at) = (length(taken), message.receive() * 4 * 4096);
                        let mut found = vec![0; usize::try_from(expected).unwrap()];
                        inbox.memory.read(at, &mut found).unwrap();
                        assert_eq!(found, pattern::bytes(taken % 7, found.len()), "message {taken}");
                        messages.give_back(message).unwrap();
                        taken += 1;
                    }
                    if gone < COUNT || taken < COUNT {
                        gone += u64::from(messages.wait(Waiting::Asleep, soon()).unwrap());
                    }
                }
                assert_eq!((gone, taken), (COUNT, COUNT));
            });
        }
    });
    assert_eq!(missing_receives(), before);
}

#[test]
fn a_peer_that_takes_nothing_is_sent_no_more_than_it_has_receives_for() {
    let ([mut near, mut far], outbox) = ends([4, 6], Method::Pinned);
    fill(&outbox);
    let before = missing_receives();
    assert_eq!(near.messages.depth(), 5);
    assert_eq!(send_some(&mut near.messages, &outbox, 0, 100), 5);
    let error = near.messages.send(outbox.slice(0, 1)).unwrap_err();
    assert!(matches!(error, TransferError::Full { depth: 5 }), "{error:?}");
    let mut gone = 0;
    while gone < 5 {
        gone += near.messages.wait(Waiting::Asleep, soon()).unwrap();
    }
    assert!(!near.messages.has_room(), "gone isn't taken");
    take_all(&mut far, 5, Waiting::Asleep);
    thread::scope(|scope| {
        // The news goes when the far end waits.
        scope.spawn(|| far.messages.wait(Waiting::Asleep, soon()).unwrap());
        while !near.messages.has_room() {
            near.messages.wait(Waiting::Asleep, soon()).unwrap();
        }
    });
    assert_eq!(missing_receives(), before);
}

#[test]
fn what_cant_be_received_rightly_isnt_sent() {
    let ([mut near, _far], outbox) = ends([4, 4], Method::OnDemand);
    let error = near.messages.send(outbox.slice(0, SLOT - PAGE + 1)).unwrap_err();
    assert!(matches!(error, TransferError::TooLong { .. }), "{error:?}");
    let error = near.messages.send(outbox.slice(8, 8)).unwrap_err();
    assert!(in_words(&error).contains("page-aligned"), "{error:?}");

    let peers = Peers::connect(&EndpointConfig::default());
    let inbox = Side::host(&peers.pd, ByteLen::new(PAGE), Method::Pinned);
    let [stream, _] = streams();
    let error = Messages::new(peers.near, vec![inbox.whole(); 3], &stream, soon()).unwrap_err();
    assert!(matches!(error, MessagesError::Receives { given: 3, most: 16 }), "{error:?}");
}
