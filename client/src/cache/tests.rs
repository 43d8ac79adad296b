//! The cache against a model, and against threads that revoke while others look up.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::connection::Fall;

const LIMITS: CacheLimits = CacheLimits { entries: 4, bytes: ByteLen::new(10) };

/// A lease of a test's: several have the same number, as leases of different daemons' tables have.
#[derive(Debug, Clone)]
struct Right {
    key: Key,
    standing: Arc<Standing>,
    size: ByteLen,
}

impl Right {
    fn new(number: u64) -> Self {
        let (lease, generation) = (LeaseId::new(number), Generation::FIRST);
        let key = Key { lease, generation, domain: 0, access: Access::LOCAL_READ };
        Self { key, standing: Arc::default(), size: ByteLen::new(1 + number % 4) }
    }
}

/// What is kept: whose it is.
type Value = Arc<Arc<Standing>>;

fn find_or_make(cache: &Arc<Cache<Value>>, right: &Right, domain: usize) -> Option<Value> {
    let make = || Ok::<_, Infallible>(Arc::new(Arc::clone(&right.standing)));
    let key = Key { domain, ..right.key };
    cache.find_or_make(key, &right.standing, |_| right.size, make).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    LookUp { right: usize, domain: usize },
    Fall { right: usize, why: Fall },
    Grant { number: u64 },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let right = any::<usize>();
    let why = prop_oneof![Just(Fall::Revoked), Just(Fall::GivenBack), Just(Fall::Lost)];
    prop_oneof![
        8 => (right, 0..2_usize).prop_map(|(right, domain)| Step::LookUp { right, domain }),
        2 => (right, why).prop_map(|(right, why)| Step::Fall { right, why }),
        2 => (0..6_u64).prop_map(|number| Step::Grant { number }),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn a_hit_is_never_stale_and_the_bounds_hold(steps in prop::collection::vec(step(), 1..120)) {
        let cache = Arc::new(Cache::<Value>::new(LIMITS));
        let mut rights = vec![Right::new(0)];
        let mut lookups = 0;
        for step in steps {
            match step {
                Step::Grant { number } => rights.push(Right::new(number)),
                Step::Clear => cache.shelf.clear(),
                Step::Fall { right, why } => {
                    let right = &rights[right % rights.len()];
                    right.standing.fall(why);
                    // The test's own and the standing's: the cache has let go.
                    prop_assert_eq!(Arc::strong_count(&right.standing), 1);
                }
                Step::LookUp { right, domain } => {
                    let right = &rights[right % rights.len()];
                    let found = find_or_make(&cache, right, domain);
                    lookups += 1;
                    prop_assert_eq!(found.is_some(), right.standing.is_good());
                    prop_assert!(found.is_none_or(|value| Arc::ptr_eq(&*value, &right.standing)));
                }
            }
            let (entries, bytes) = cache.shelf.holds();
            prop_assert!(entries <= LIMITS.entries && bytes <= LIMITS.bytes, "{} of {}", entries, bytes);
        }
        let counts = cache.counts.read();
        prop_assert_eq!(counts.hits + counts.misses, lookups);
    }
}

#[test]
fn the_second_look_up_is_a_hit_in_its_own_domain_only() {
    let cache = Arc::new(Cache::<Value>::new(LIMITS));
    let right = Right::new(1);
    let [first, second] = [0; 2].map(|domain| find_or_make(&cache, &right, domain).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &find_or_make(&cache, &right, 1).unwrap()));
    let CacheCounts { hits, misses, .. } = cache.counts.read();
    assert_eq!((hits, misses), (1, 2));
}

#[test]
fn what_is_found_again_and_again_stays() {
    let cache = Arc::new(Cache::<Value>::new(CacheLimits { bytes: ByteLen::new(1 << 20), ..LIMITS }));
    let favourite = Right::new(0);
    let first = find_or_make(&cache, &favourite, 0).unwrap();
    for number in 1..20 {
        find_or_make(&cache, &Right::new(number), 0).unwrap();
        assert!(Arc::ptr_eq(&first, &find_or_make(&cache, &favourite, 0).unwrap()), "lost at {number}");
    }
    assert_eq!(cache.counts.read().evictions, 16);
}

#[test]
fn what_is_longer_than_all_that_may_be_kept_is_made_and_not_kept() {
    let cache = Arc::new(Cache::<Value>::new(LIMITS));
    let right = Right { size: ByteLen::new(11), ..Right::new(0) };
    assert!(find_or_make(&cache, &right, 0).is_some());
    assert_eq!(cache.shelf.holds(), (0, ByteLen::ZERO));
}

#[test]
fn a_right_that_goes_while_its_region_is_made_leaves_nothing_behind() {
    let cache = Arc::new(Cache::<Value>::new(LIMITS));
    let right = Right::new(0);
    let make = || {
        right.standing.fall(Fall::Revoked);
        Ok::<_, Infallible>(Arc::new(Arc::clone(&right.standing)))
    };
    assert!(cache.find_or_make(right.key, &right.standing, |_| right.size, make).unwrap().is_none());
    assert_eq!(cache.shelf.holds(), (0, ByteLen::ZERO));
}

/// Readers note whether they had been told *before* they looked. A hit after that would be stale.
#[test]
fn no_thread_finds_a_region_after_it_could_know_of_the_fall() {
    const ROUNDS: usize = 300;
    let cache = Arc::new(Cache::<Value>::new(LIMITS));
    let rights: Vec<_> =
        (0..ROUNDS as u64).map(|number| (Right::new(number % 3), AtomicBool::new(false))).collect();
    let round = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((right, told)) = rights.get(round.load(Ordering::Relaxed)) {
                    let told = told.load(Ordering::Acquire);
                    let found = find_or_make(&cache, right, 0);
                    assert!(!(told && found.is_some()), "a stale hit");
                }
            });
        }
        for (right, told) in &rights {
            for _ in 0..50 {
                find_or_make(&cache, right, 0);
            }
            right.standing.fall(Fall::Revoked);
            told.store(true, Ordering::Release);
            thread::yield_now();
            round.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(cache.shelf.holds(), (0, ByteLen::ZERO));
}

/// `cargo test --release -p peermem --lib -- --ignored --nocapture what_a_hit_costs`
#[test]
#[ignore = "a measurement, worth something in an optimised build only"]
fn what_a_hit_costs() {
    const HITS: u32 = 10_000_000;
    let cache = Arc::new(Cache::default());
    let rights: Vec<_> = (0..1000).map(Right::new).collect();
    for right in &rights {
        find_or_make(&cache, right, 0).unwrap();
    }
    let began = std::time::Instant::now();
    for _ in 0..HITS {
        std::hint::black_box(find_or_make(&cache, std::hint::black_box(&rights[500]), 0));
    }
    println!("a hit among {}: {:?}", rights.len(), began.elapsed() / HITS);
    assert_eq!(cache.counts.read().hits, u64::from(HITS));
}
