//! What happens to the core in a random test.

use peermem_proto::{Shape, Sharing};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::support::PAGE;

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    Found {
        name: u8,
        pages: u64,
        shape: Shape,
        returns_late: bool,
        enforced: bool,
    },
    /// A BAR: those with the numbers 0 and 1, 2 and 3 are of one function.
    FoundBar {
        name: u8,
        pages: u64,
    },
    Lost(u8),
    LoseInitiator(u8),
    Connect {
        uid: u8,
    },
    Disconnect(u8),
    Map {
        session: u8,
        region: u8,
        offset: Option<u64>,
        length: u64,
        initiator: u8,
        secs: Option<u8>,
    },
    FinishCarve {
        which: u8,
        ok: bool,
    },
    Unmap {
        session: u8,
        lease: u8,
    },
    Renew {
        session: u8,
        lease: u8,
        secs: Option<u8>,
    },
    Delegate {
        session: u8,
        lease: u8,
        other_memory: bool,
    },
    Claim {
        session: u8,
        token: u8,
    },
    Revoke {
        session: u8,
        lease: u8,
    },
    Register {
        session: u8,
        name: u8,
        pages: u64,
        sharing: Sharing,
    },
    Unregister {
        session: u8,
        name: u8,
    },
    Recover {
        region: u8,
        pages: u64,
    },
    Pass {
        secs: u8,
    },
    Policy(u8),
    /// The daemon dies and is there again; each bit is a process that died meanwhile.
    Restart {
        dead: u8,
    },
    Resume {
        session: u8,
    },
    Drain,
}

fn number() -> impl Strategy<Value = u8> {
    any::<u8>()
}

fn secs() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![1 => Just(None), 1 => (0u8..90).prop_map(Some)]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shape = prop_oneof![2 => Just(Shape::Pool), 1 => Just(Shape::Window)];
    let sharing = prop_oneof![Just(Sharing::Owner), Just(Sharing::Everyone)];
    let length =
        prop_oneof![8 => (0u64..6).prop_map(|p| p * PAGE), 1 => any::<u64>(), 1 => Just(u64::MAX - 4095)];
    let offset = prop_oneof![
        2 => Just(None),
        1 => (0u64..6).prop_map(|p| Some(p * PAGE)),
        1 => any::<u64>().prop_map(Some)
    ];
    let step = prop_oneof![
        3 => (0u8..4, 1u64..8, shape, any::<bool>(), any::<bool>()).prop_map(
            |(name, pages, shape, returns_late, enforced)| Step::Found { name, pages, shape, returns_late, enforced }),
        2 => (0u8..4, 1u64..8).prop_map(|(name, pages)| Step::FoundBar { name, pages }),
        1 => (0u8..6).prop_map(Step::Lost),
        1 => number().prop_map(Step::LoseInitiator),
        4 => (0u8..4).prop_map(|uid| Step::Connect { uid }),
        1 => number().prop_map(Step::Disconnect),
        14 => (number(), 0u8..6, offset, length, 0u8..10, secs()).prop_map(
            |(session, region, offset, length, initiator, secs)|
                Step::Map { session, region, offset, length, initiator, secs }),
        12 => (number(), prop::bool::weighted(0.9)).prop_map(|(which, ok)| Step::FinishCarve { which, ok }),
        4 => (number(), number()).prop_map(|(session, lease)| Step::Unmap { session, lease }),
        3 => (number(), number(), secs()).prop_map(|(session, lease, secs)| Step::Renew { session, lease, secs }),
        4 => (number(), number(), prop::bool::weighted(0.1)).prop_map(
            |(session, lease, other_memory)| Step::Delegate { session, lease, other_memory }),
        4 => (number(), number()).prop_map(|(session, token)| Step::Claim { session, token }),
        2 => (number(), number()).prop_map(|(session, lease)| Step::Revoke { session, lease }),
        2 => (number(), 2u8..6, 1u64..8, sharing).prop_map(
            |(session, name, pages, sharing)| Step::Register { session, name, pages, sharing }),
        1 => (number(), 0u8..6).prop_map(|(session, name)| Step::Unregister { session, name }),
        3 => (0u8..6, 1u64..8).prop_map(|(region, pages)| Step::Recover { region, pages }),
        3 => (0u8..40).prop_map(|secs| Step::Pass { secs }),
        1 => (0u8..4).prop_map(Step::Policy),
        1 => number().prop_map(|dead| Step::Restart { dead }),
        3 => number().prop_map(|session| Step::Resume { session }),
    ];
    let drain = prop_oneof![9 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (prop::collection::vec(step, 1..160), drain).prop_map(|(mut steps, drain)| {
        if let Some(at) = drain {
            steps.insert(at.index(steps.len()), Step::Drain);
        }
        steps
    })
}
