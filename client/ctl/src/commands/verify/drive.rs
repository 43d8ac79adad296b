//! The connecting end: writes and reads several sizes, and has both ends compare.

use std::{net::TcpStream, sync::Arc};

use anyhow::{Context, Result, bail};
use peermem::{
    proto::{ByteLen, ByteRange},
    rdma::{Endpoint, Operation, RemoteRegion, exchange},
    verbs::{MemoryRegion, MrSlice},
};

use super::{
    bytes::{Place, Wrong, compare, fill},
    report::Transfer,
    talk::{Answer, Request, deadline},
};

/// Lengths that tend to go wrong: less than a word, a page, a page and a byte, many packets, many messages with an odd
/// end. The whole of the memory comes last.
const LENGTHS: [u64; 6] = [1, 8, 4096, 4097, 65536, (1 << 20) + 123];

/// Moves the first bytes of this end's memory to the first bytes of the other's, or back.
pub(super) trait Mover {
    fn transfer(&mut self, operation: Operation, length: u64) -> Result<()>;
}

/// Moves them by RDMA.
pub(super) struct RdmaMover {
    pub(super) endpoint: Endpoint,
    pub(super) local: Arc<MemoryRegion>,
    pub(super) remote: RemoteRegion,
}

impl Mover for RdmaMover {
    fn transfer(&mut self, operation: Operation, length: u64) -> Result<()> {
        let local = front(&self.local, ByteLen::new(length))?;
        let moved = match operation {
            Operation::Write => self.endpoint.write(&local, &self.remote, ByteLen::ZERO, deadline()),
            Operation::Read => self.endpoint.read(&local, &self.remote, ByteLen::ZERO, deadline()),
        };
        Ok(moved?)
    }
}

/// The first `length` bytes of `region`.
pub(in crate::commands) fn front(region: &Arc<MemoryRegion>, length: ByteLen) -> Result<MrSlice> {
    let range = ByteRange::new(ByteLen::ZERO, length).context("a length beyond the address space")?;
    Ok(region.slice(range)?)
}

/// Carries out every transfer, tells the other end the results, and gives them.
pub(super) fn drive(
    stream: &TcpStream,
    mover: &mut impl Mover,
    here: &impl Place,
    longest: ByteLen,
) -> Result<Vec<Transfer>> {
    let transfers = all(stream, mover, here, longest);
    let last = match &transfers {
        Ok(transfers) => Request::Done { transfers: transfers.clone() },
        Err(error) => Request::GiveUp { why: format!("{error:#}") },
    };
    let told = exchange::send(stream, &last, deadline());
    let transfers = transfers?;
    told?;
    Ok(transfers)
}

fn all(
    stream: &TcpStream,
    mover: &mut impl Mover,
    here: &impl Place,
    longest: ByteLen,
) -> Result<Vec<Transfer>> {
    let mut transfers = Vec::new();
    let shorter = LENGTHS.into_iter().filter(|length| *length < longest.get());
    for length in shorter.chain([longest.get()]) {
        for operation in [Operation::Write, Operation::Read] {
            // Two seeds a transfer, never used again: what an earlier one left behind can't pass for this one's bytes.
            let seed = 1 + 2 * transfers.len() as u64;
            let wrong = one(stream, mover, here, operation, length, seed)
                .with_context(|| format!("{operation} of {length} bytes"))?;
            transfers.push(Transfer { operation: operation.into(), bytes: length, wrong });
        }
    }
    Ok(transfers)
}

/// One transfer: the source filled, the target filled with something else, the bytes moved, the target compared.
fn one(
    stream: &TcpStream,
    mover: &mut impl Mover,
    here: &impl Place,
    operation: Operation,
    length: u64,
    seed: u64,
) -> Result<Option<Wrong>> {
    let (size, before) = (usize::try_from(length)?, seed + 1);
    let there = |request: &Request| ask(stream, request);
    match operation {
        Operation::Write => {
            fill(here, seed, size)?;
            there(&Request::Fill { seed: before, length: size })?;
            mover.transfer(operation, length)?;
            there(&Request::Compare { seed, length: size, before })
        }
        Operation::Read => {
            there(&Request::Fill { seed, length: size })?;
            fill(here, before, size)?;
            mover.transfer(operation, length)?;
            compare(here, seed, size, before)
        }
    }
}

pub(in crate::commands) fn ask(stream: &TcpStream, request: &Request) -> Result<Option<Wrong>> {
    exchange::send(stream, request, deadline())?;
    match exchange::receive(stream, deadline()).context("the other end is gone")? {
        Answer::Done { wrong } => Ok(wrong),
        Answer::Failed { why } => bail!("the other end: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use peermem::rdma::Waiting;

    use super::{
        super::{bytes::tests::Plain, receive::Receive, serve::serve},
        *,
    };

    const SIZE: usize = 3 << 20;

    /// Copies between two places, in the way that a test wants it wrong.
    struct Copier {
        here: Arc<Plain>,
        there: Arc<Plain>,
        spoil: fn(u64, &mut Vec<u8>),
    }

    impl Mover for Copier {
        fn transfer(&mut self, operation: Operation, length: u64) -> Result<()> {
            let (from, to) = match operation {
                Operation::Write => (&self.here, &self.there),
                Operation::Read => (&self.there, &self.here),
            };
            let mut bytes = from.0.lock().unwrap()[..usize::try_from(length)?].to_vec();
            (self.spoil)(length, &mut bytes);
            to.put(0, &bytes)
        }
    }

    /// Nothing is sent here.
    struct Nobody;

    impl Receive for Nobody {
        fn open(&mut self, _: &TcpStream) -> Result<()> {
            bail!("unexpected")
        }

        fn receive(&mut self, _: bool, _: Waiting) -> Result<()> {
            bail!("unexpected")
        }
    }

    fn verify(spoil: fn(u64, &mut Vec<u8>)) -> Vec<Transfer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = Arc::new(Plain::new(SIZE));
        let serving = {
            let (address, there) = (listener.local_addr().unwrap(), Arc::clone(&there));
            thread::spawn(move || serve(&TcpStream::connect(address).unwrap(), &*there, &mut Nobody).unwrap())
        };
        let here = Arc::new(Plain::new(SIZE));
        let mut copier = Copier { here: Arc::clone(&here), there, spoil };
        let stream = listener.accept().unwrap().0;
        let transfers = drive(&stream, &mut copier, &*here, ByteLen::from_usize(SIZE)).unwrap();
        assert_eq!(serving.join().unwrap(), transfers, "both ends have the same results");
        transfers
    }

    #[test]
    fn right_bytes_are_verified_in_every_size_both_ways() {
        let transfers = verify(|_, _| {});
        assert_eq!(transfers.len(), 2 * (LENGTHS.len() + 1));
        assert!(transfers.iter().all(|transfer| transfer.wrong.is_none()), "{transfers:?}");
        assert_eq!(transfers.last().unwrap().bytes, SIZE as u64);
    }

    #[test]
    fn one_wrong_byte_is_found_both_ways() {
        let transfers = verify(|length, bytes| {
            if length == 4097 {
                bytes[4096] ^= 1;
            }
        });
        let wrong: Vec<_> = transfers.iter().filter(|transfer| transfer.wrong.is_some()).collect();
        assert_eq!(wrong.len(), 2, "{transfers:?}");
        assert!(wrong.iter().all(|transfer| transfer.wrong == Some(Wrong { first: 4096, count: 1 })));
    }

    #[test]
    fn pages_in_the_wrong_order_are_found() {
        let transfers = verify(|length, bytes| {
            if length == 65536 {
                bytes.rotate_left(4096);
            }
        });
        assert_eq!(transfers.iter().filter(|transfer| transfer.wrong.is_some()).count(), 2);
    }

    #[test]
    fn bytes_that_never_arrive_are_found() {
        let transfers = verify(|_, bytes| bytes.clear());
        // Single bytes may be equal by chance; the long ones can't.
        assert!(
            transfers.iter().filter(|transfer| transfer.bytes > 8).all(|transfer| transfer.wrong.is_some())
        );
    }

    #[test]
    fn bytes_behind_the_end_are_found() {
        let transfers = verify(|length, bytes| {
            if length == 4096 {
                bytes.push(bytes[0] ^ 0xff);
            }
        });
        assert!(transfers.iter().any(|transfer| transfer.bytes == 4096 && transfer.wrong.is_some()));
    }
}
