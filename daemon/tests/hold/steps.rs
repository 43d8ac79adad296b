//! What a hold does, step by step.

use peermem_proto::ByteLen;
use peermemd::provider::p2pmem::{Amount, Hold, Plan, PoolError, PrepareError, Ready};

use crate::pool::{FirstFit, Run, pages};

fn hold_all(pool: &FirstFit) -> Hold<FirstFit> {
    Hold::begin(pool.clone(), Plan::default()).unwrap()
}

/// What the shell does for a lease, up to its answer.
fn grant(hold: &mut Hold<FirstFit>, count: usize) {
    hold.prepare(pages(count)).unwrap().zero().unwrap().release();
}

/// A lease that its owner has mapped and written to.
fn mapped(hold: &mut Hold<FirstFit>, pool: &FirstFit, count: usize) -> Run {
    grant(hold, count);
    let mut run = pool.map(count).unwrap();
    assert!(run.is_zero());
    run.write(0x5a);
    run
}

/// Such a lease ends.
fn end(hold: &mut Hold<FirstFit>, count: usize) {
    hold.owe(pages(count));
    hold.settle().unwrap();
}

#[test]
fn nobody_maps_more_than_was_granted() {
    let pool = FirstFit::new(16);
    let mut hold = hold_all(&pool);
    assert!(pool.map(1).is_none());
    grant(&mut hold, 4);
    assert!(pool.map(5).is_none());
    let run = pool.map(4).unwrap();
    assert!(run.is_zero() && pool.map(1).is_none());
}

#[test]
fn others_keep_what_is_left_to_them() {
    let pool = FirstFit::new(16);
    let plan = Plan { amount: Amount::AtMost(pages(8)), leave: pages(12) };
    assert_eq!(Hold::begin(pool.clone(), plan).unwrap().held(), pages(4));
    assert_eq!(Hold::begin(pool.clone(), Plan { leave: pages(2), ..plan }).unwrap().held(), pages(8));
    let _others = pool.map(10).unwrap();
    assert_eq!(hold_all(&pool).held(), pages(6));
}

#[test]
fn memory_comes_back_dirty_and_is_clean_for_the_next() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let run = mapped(&mut hold, &pool, 8);
    drop(run);
    end(&mut hold, 8);
    assert_eq!((hold.held(), hold.owed().get(), pool.free()), (pages(8), 0, 0));
    let scrub = hold.scrub().unwrap();
    assert!(hold.scrub().is_none(), "one at a time");
    assert!(matches!(hold.prepare(pages(4)), Err(PrepareError::Later)));
    hold.scrubbed(scrub.zero()).unwrap();
    assert!(matches!(hold.prepare(pages(8)), Ok(Ready::Clean(_))));
}

#[test]
fn what_was_there_at_the_start_is_zeroed_only_for_a_grant() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    assert!(hold.scrub().is_none());
    assert!(matches!(hold.prepare(pages(4)), Ok(Ready::Dirty(_))));
}

#[test]
fn who_has_not_mapped_yet_keeps_the_right_to() {
    let pool = FirstFit::new(16);
    let mut hold = hold_all(&pool);
    let old = mapped(&mut hold, &pool, 4);
    grant(&mut hold, 3);
    drop(old);
    end(&mut hold, 4);
    // The pages that the owner of three would have got are not those that were just freed.
    hold.due().unwrap().zero().unwrap().release();
    assert!(hold.due().is_none());
    assert_eq!((pool.free(), hold.owed().get()), (3, 0));
    assert!(pool.map(3).unwrap().is_zero());
}

#[test]
fn clean_memory_is_put_back_without_a_wait() {
    let pool = FirstFit::new(16);
    let mut hold = hold_all(&pool);
    let old = mapped(&mut hold, &pool, 4);
    let clean = hold.prepare(pages(3)).unwrap().zero().unwrap();
    hold.keep(clean);
    grant(&mut hold, 3);
    let clean = hold.prepare(pages(3)).unwrap().zero().unwrap();
    hold.keep(clean);
    drop(old);
    end(&mut hold, 4);
    assert!(hold.due().is_none());
    assert!(pool.free_is_zero() && pool.free() == 3);
}

#[test]
fn what_is_left_to_others_waits_for_zeroes_once() {
    let pool = FirstFit::new(16);
    let plan = Plan { leave: pages(4), ..Plan::default() };
    let mut hold = Hold::begin(pool.clone(), plan).unwrap();
    for round in 0..3 {
        drop(mapped(&mut hold, &pool, 1));
        end(&mut hold, 1);
        let due = hold.due();
        assert_eq!((due.is_some(), pool.free()), if round == 0 { (true, 0) } else { (false, 4) }, "{round}");
        due.into_iter().for_each(|due| due.zero().unwrap().release());
        assert!(hold.due().is_none() && pool.free_is_zero());
        while let Some(dirty) = hold.scrub() {
            hold.scrubbed(dirty.zero()).unwrap();
        }
        assert_eq!(pool.free(), 4);
    }
}

#[test]
fn an_owner_that_does_not_let_go_is_owed_for() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let run = mapped(&mut hold, &pool, 6);
    end(&mut hold, 6);
    assert_eq!((hold.held(), hold.owed()), (pages(2), pages(6)));
    let error = hold.prepare(pages(3)).unwrap_err();
    assert!(matches!(error, PrepareError::NotEnough { owed, .. } if owed == pages(6)));
    assert!(error.to_string().contains("fuser"), "{error}");
    drop(run);
    assert!(hold.prepare(pages(8)).is_ok());
}

#[test]
fn runs_side_by_side_are_joined_when_one_is_needed() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let runs: Vec<_> = (0..4).map(|_| mapped(&mut hold, &pool, 2)).collect();
    for run in runs {
        drop(run);
        end(&mut hold, 2);
    }
    let whole = hold.prepare(pages(8)).unwrap();
    assert!(matches!(whole, Ready::Dirty(_)));
    whole.zero().unwrap().release();
    assert!(pool.map(8).unwrap().is_zero());
}

#[test]
fn what_can_not_be_joined_is_refused_and_not_tried_again() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let mut runs: Vec<_> = (0..4).map(|_| mapped(&mut hold, &pool, 2)).collect();
    drop(runs.remove(0));
    drop(runs.remove(1));
    end(&mut hold, 4);
    assert!(matches!(hold.prepare(pages(4)), Err(PrepareError::Fragmented { .. })));
    pool.ambush(8);
    assert!(matches!(hold.prepare(pages(4)), Err(PrepareError::Fragmented { .. })), "all was let go again");
    pool.ambush(0);
    drop(runs.remove(0));
    end(&mut hold, 2);
    assert!(hold.prepare(pages(6)).is_ok());
}

#[test]
fn what_is_stolen_while_all_is_let_go_is_owed() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let runs: Vec<_> = (0..4).map(|_| mapped(&mut hold, &pool, 2)).collect();
    drop(runs);
    for _ in 0..4 {
        hold.owe(pages(2));
    }
    let front = hold.prepare(pages(2)).unwrap().zero().unwrap();
    let back = hold.prepare(pages(6)).unwrap().zero().unwrap();
    hold.keep(front);
    hold.keep(back);
    pool.ambush(3);
    assert!(matches!(hold.prepare(pages(8)), Err(PrepareError::Fragmented { .. })));
    assert_eq!((hold.held(), hold.owed()), (pages(5), pages(3)));
    pool.free_stolen();
    assert!(hold.prepare(pages(8)).is_ok());
}

#[test]
fn a_device_that_is_gone_is_an_error_everywhere() {
    let pool = FirstFit::new(8);
    let mut hold = hold_all(&pool);
    let run = mapped(&mut hold, &pool, 2);
    drop(run);
    end(&mut hold, 2);
    let scrub = hold.scrub().unwrap();
    let ready = hold.prepare(pages(2)).unwrap();
    pool.unplug();
    assert!(matches!(hold.scrubbed(scrub.zero()), Err(PoolError::Gone(_))));
    assert!(matches!(ready.zero(), Err(PoolError::Gone(_))));
    assert!(matches!(hold.settle(), Err(PoolError::Gone(_))));
    assert!(matches!(hold.prepare(pages(1)), Err(PrepareError::Pool(PoolError::Gone(_)))));
    assert!(matches!(Hold::begin(pool, Plan::default()), Err(PoolError::Gone(_))));
}

#[test]
fn only_whole_pages_are_prepared() {
    let mut hold = hold_all(&FirstFit::new(8));
    for length in [pages(0), ByteLen::new(pages(1).get() + 1)] {
        assert!(matches!(hold.prepare(length), Err(PrepareError::NotPages(_))));
    }
}
