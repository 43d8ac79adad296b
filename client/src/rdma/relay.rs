//! Bytes that are put into this side's memory piece by piece, and are on their way to the peer while the next are put
//! there.
//!
//! ```text
//! thread of its own:  fill slot 0 │ fill slot 1 │ fill slot 2 │ fill slot 0 │ ...
//! the caller's:                   │ write 0     │ write 1     │ write 2     │ ...
//! ```

use std::{collections::VecDeque, error, sync::mpsc, thread, time::Instant};

use peermem_proto::{ByteLen, ByteRange};
use thiserror::Error;

use super::{
    batches::Waiting,
    endpoint::Endpoint,
    remote::RemoteRegion,
    transfer::{Operation, TransferError},
};
use crate::verbs::MrSlice;

/// Where pieces pass through, and where they go.
#[derive(Debug, Clone, Copy)]
pub struct Relay<'a> {
    /// Memory for one piece each; without any nothing goes. With two or more, one is filled while others are written.
    pub slots: &'a [MrSlice],
    /// The peer's memory.
    pub remote: &'a RemoteRegion,
    /// Where in it the first piece goes; the others follow.
    pub offset: ByteLen,
    /// When all must be there.
    pub deadline: Instant,
}

/// Why bytes weren't relayed.
#[derive(Debug, Error)]
pub enum RelayError<E: error::Error + 'static> {
    /// The caller's part failed.
    #[error(transparent)]
    Caller(E),
    /// A piece wasn't written.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl Endpoint {
    /// Writes to the peer what `fill` puts into the slots, and returns how much that was. `fill` runs on a thread of its own;
    /// it is told how many bytes went before and which slot to fill, and says how many bytes it has put there: 0 behind the
    /// end. `arrived` is told which bytes, counted from the first, the peer's device has.
    ///
    /// ```no_run
    /// # fn example(
    /// #     endpoint: &mut peermem::rdma::Endpoint, mapping: &peermem::Mapping, slots: &[peermem::verbs::MrSlice],
    /// #     remote: &peermem::rdma::RemoteRegion, file: &std::fs::File, deadline: std::time::Instant,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// use peermem::{proto::ByteLen, rdma::Relay};
    ///
    /// const PIECE: usize = 1 << 20;
    /// let length = file.metadata()?.len();
    /// // A drive reads into leased device memory, which the RDMA device writes to the peer.
    /// let relay = Relay { slots, remote, offset: ByteLen::ZERO, deadline };
    /// let fill = |before: ByteLen, slot: usize| {
    ///     let piece = PIECE.min((length - before.get()) as usize);
    ///     mapping.read_file(slot * PIECE, piece, file, before.get()).map(|()| ByteLen::from_usize(piece))
    /// };
    /// endpoint.relay(&relay, fill, |_| Ok(()))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RelayError`]. What `fill` put there before it failed still arrives, and the endpoint stays connected; it doesn't
    /// where `arrived` or a transfer fails. A `fill` that doesn't return isn't ended by the deadline.
    pub fn relay<E: error::Error + Send + 'static>(
        &mut self,
        relay: &Relay<'_>,
        mut fill: impl FnMut(ByteLen, usize) -> Result<ByteLen, E> + Send,
        arrived: impl FnMut(ByteRange) -> Result<(), E>,
    ) -> Result<ByteLen, RelayError<E>> {
        let slots = relay.slots;
        let (free, wanted) = mpsc::sync_channel(slots.len());
        let (filled, pieces) = mpsc::sync_channel(slots.len());
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut before = ByteLen::ZERO;
                // Ends early where the other side has given up.
                for slot in (0..slots.len()).cycle().take_while(|_| wanted.recv().is_ok()) {
                    let piece = fill(before, slot).map(|length| length.min(slots[slot].len()));
                    let length = *piece.as_ref().unwrap_or(&ByteLen::ZERO);
                    before = before.saturating_add(length);
                    if filled.send(piece).is_err() || length.is_zero() {
                        break;
                    }
                }
            });
            self.write_pieces(relay, free, pieces, arrived)
        })
    }

    fn write_pieces<E: error::Error + 'static>(
        &mut self,
        relay: &Relay<'_>,
        free: mpsc::SyncSender<()>,
        pieces: mpsc::Receiver<Result<ByteLen, E>>,
        mut arrived: impl FnMut(ByteRange) -> Result<(), E>,
    ) -> Result<ByteLen, RelayError<E>> {
        let Relay { slots, remote, offset, deadline } = *relay;
        // There is room for as many as there are slots. Where the other thread is gone, it has said why.
        let release = || free.send(()).unwrap_or_default();
        slots.iter().for_each(|_| release());
        let mut pipeline = self.pipeline(Operation::Write);
        let mut under_way = VecDeque::new();
        let (mut slots, mut before, mut end) = (slots.iter().cycle().peekable(), ByteLen::ZERO, None);
        loop {
            while end.is_none() && pipeline.has_room() {
                // Where there are others to wait for, the next piece can wait too.
                let piece = if under_way.is_empty() { pieces.recv().ok() } else { pieces.try_recv().ok() };
                match (piece, slots.peek()) {
                    (Some(Ok(length)), Some(slot)) if !length.is_zero() => {
                        let local = MrSlice::clone(slot).take_front(length);
                        slots.next();
                        pipeline.start(local, remote, offset.saturating_add(before))?;
                        pipeline.flush()?;
                        under_way.extend(ByteRange::new(before, length));
                        before = before.saturating_add(length);
                    }
                    (None, _) if !under_way.is_empty() => break,
                    (Some(Err(error)), _) => end = Some(Err(RelayError::Caller(error))),
                    _ => end = Some(Ok(before)),
                }
            }
            if under_way.is_empty() {
                return end.unwrap_or(Ok(before));
            }
            for _ in 0..pipeline.wait(Waiting::Asleep, deadline)? {
                if let Some(piece) = under_way.pop_front() {
                    arrived(piece).map_err(RelayError::Caller)?;
                }
                release();
            }
        }
    }
}
