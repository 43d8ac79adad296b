//! How something that was granted stands, as far as this process has been told, and who has to know when it falls.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

/// What ended the right to a lease or a registered region. A later one in this order replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Fall {
    /// The daemon wants it back.
    Revoked = 1,
    /// Its holder has let go of it.
    GivenBack = 2,
    /// The daemon is known to have it no longer, or no longer for this client.
    Lost = 3,
}

/// Something made of a lease, to be dropped with the right to it.
pub(crate) trait Dependent: Send + Sync + fmt::Debug {
    /// The right has gone. May block for as long as the kernel takes to let go of memory; makes no call to the daemon.
    fn let_go(&self, of: &Standing);
}

/// Good until it falls, and never good again.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// 0, or a [`Fall`].
    state: AtomicU8,
    /// Had by who tells the dependents, for as long as that takes.
    telling: Mutex<()>,
    dependents: Mutex<Vec<Weak<dyn Dependent>>>,
}

impl Standing {
    /// Whether the right is there.
    pub(crate) fn is_good(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state.load(Ordering::Acquire) == Fall::Lost as u8
    }

    /// Returns when every dependent has let go, whoever told it. Whoever looks after that finds it fallen.
    pub(crate) fn fall(&self, why: Fall) {
        self.state.fetch_max(why as u8, Ordering::AcqRel);
        // A second caller waits here for the first to be through, and finds the list empty.
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        // Not under its lock: a dependent may take its time.
        let dependents = std::mem::take(&mut *self.dependents());
        dependents.iter().filter_map(Weak::upgrade).for_each(|dependent| dependent.let_go(self));
    }

    /// Has `dependent` told of the fall, once however often it is added; `false` where that has come already.
    pub(crate) fn tell(&self, dependent: Weak<dyn Dependent>) -> bool {
        let mut dependents = self.dependents();
        // Looked at under the lock: `fall` sets the state before it takes the list.
        if !self.is_good() {
            return false;
        }
        dependents.retain(|other| other.strong_count() > 0);
        if !dependents.iter().any(|other| Weak::ptr_eq(other, &dependent)) {
            dependents.push(dependent);
        }
        true
    }

    /// No step of a change panics, so the lock's poison adds nothing.
    fn dependents(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Dependent>>> {
        self.dependents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicU32, mpsc},
        thread,
        time::Duration,
    };

    use super::*;

    #[derive(Debug, Default)]
    struct Told(AtomicU32);

    impl Dependent for Told {
        fn let_go(&self, of: &Standing) {
            assert!(!of.is_good());
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_dependent_is_told_once_of_the_first_fall() {
        let (standing, told) = (Standing::default(), Arc::new(Told::default()));
        let dependent: Weak<Told> = Arc::downgrade(&told);
        assert!(standing.tell(dependent.clone()) && standing.tell(dependent.clone()));
        standing.fall(Fall::Revoked);
        standing.fall(Fall::Lost);
        assert_eq!(told.0.load(Ordering::Relaxed), 1);
        assert!(!standing.tell(dependent));
    }

    #[test]
    fn nobody_goes_on_before_every_dependent_has_let_go() {
        #[derive(Debug)]
        struct Slow(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>, AtomicU32);

        impl Dependent for Slow {
            fn let_go(&self, _: &Standing) {
                self.0.send(()).unwrap();
                self.1.lock().unwrap().recv().unwrap();
                self.2.store(1, Ordering::Release);
            }
        }

        let ((began, has_begun), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let slow = Arc::new(Slow(began, Mutex::new(goes_on), AtomicU32::new(0)));
        let standing = Standing::default();
        let dependent: Weak<Slow> = Arc::downgrade(&slow);
        assert!(standing.tell(dependent));
        thread::scope(|scope| {
            scope.spawn(|| standing.fall(Fall::Revoked));
            has_begun.recv().unwrap();
            let second = scope.spawn(|| {
                standing.fall(Fall::GivenBack);
                slow.2.load(Ordering::Acquire)
            });
            // Time enough to go wrong in.
            thread::sleep(Duration::from_millis(100));
            go_on.send(()).unwrap();
            assert_eq!(second.join().unwrap(), 1, "it went on while the memory was still registered");
        });
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let standing = Standing::default();
        assert!(standing.is_good());
        standing.fall(Fall::Lost);
        standing.fall(Fall::Revoked);
        assert!(standing.is_lost() && !standing.is_good());
    }
}
