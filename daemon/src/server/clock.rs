//! The clock that leases go by.

use std::time::Duration;

use peermem_proto::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The time since the boot, whatever the calendar says.
pub(super) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let secs = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    Moment::from_millis(0).after(secs + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default()))
}
