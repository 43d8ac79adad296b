//! What a lease or a registered region needs from the connection it hangs on.

use std::sync::Arc;

use peermem_proto::call::{Call, Empty};

use super::holdings::Kept;

/// The two kinds of connection: [`Client`](super::Client) and [`aio::Client`](crate::aio::Client). Sealed.
pub trait Connection: Sealed {}

/// The last words of something that goes out of scope.
pub trait Sealed {
    /// Makes a call about `kept` whose result nobody can hear. Never panics, never reconnects, and never blocks longer
    /// than the connection's time-out; a call that fails leaves the matter to the daemon, which ends what isn't resumed.
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C, kept: Arc<Kept>);
}
