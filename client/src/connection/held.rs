//! What a lease or a registered region needs from the connection it hangs on.

use peermem_proto::call::{Call, Empty};

/// The two kinds of connection: [`Client`](super::Client) and [`aio::Client`](crate::aio::Client). Sealed.
pub trait Connection: Sealed {}

/// The last words of something that goes out of scope.
pub trait Sealed {
    /// Makes a call whose result nobody can hear. Never panics, and never blocks longer than the connection's
    /// time-out; a call that fails leaves the matter to the end of the connection.
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C);
}
