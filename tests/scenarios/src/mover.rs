//! Two processes that move bytes between their leases by RDMA, and compare every one, until the scenario lets them go.

use std::{
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use peermem::{
    Client,
    rdma::{Endpoint, EndpointConfig, PreparedEndpoint, RemoteRegion, TransferError, exchange, pattern},
    verbs::{ProtectionDomain, WorkError},
};
use peermem_proto::{ByteLen, LeaseId, RegionName, call::Map};
use serde::{Deserialize, Serialize};

use crate::{
    leased::{Leased, request, rxe},
    peers::{CpuAccess, device, in_words},
    role::{Role, repeat_until_let_go, say, told, until_let_go},
    wait::soon,
};

/// How many bytes go there, and come back, at once.
const MESSAGE: u64 = 64 * 1024;

/// Between two rounds, for what else is to be seen on the guest's two CPUs.
const BREATH: Duration = Duration::from_millis(5);

/// What the target says once it has its lease, and the mover once bytes move.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    lease: LeaseId,
    /// Where the target waits for the mover.
    port: Option<u16>,
}

/// What the mover says in the end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// How often the bytes went there and came back right.
    pub rounds: u64,
    /// Why it ended early.
    pub failed: Option<Failed>,
}

/// A transfer that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failed {
    /// What its message completed with; nothing where it failed otherwise.
    pub status: Option<u32>,
    /// The error in words.
    pub words: String,
}

/// Both processes.
#[derive(Debug)]
pub struct Pair {
    target: Role,
    mover: Role,
    /// Their leases, the target's first.
    pub leases: [LeaseId; 2],
}

impl Pair {
    /// Starts `roles`, whose tests call [`be_target`] and [`be_mover`], with leases of these regions.
    pub fn start(roles: [&str; 2], regions: [RegionName; 2]) -> Self {
        let [mut target, mut mover] = roles.map(|role| Role::start(role, None));
        let [at_target, at_mover] = regions;
        target.tell(&at_target);
        let far: Ready = target.hear();
        mover.tell(&(at_mover, far.port));
        let near: Ready = mover.hear();
        Self { target, mover, leases: [far.lease, near.lease] }
    }

    /// Waits for the mover's report of its failure.
    pub fn fails(&self) -> Failed {
        let report: Report = self.mover.hear();
        report.failed.expect("it wasn't let go")
    }

    /// Lets both end, and says how often the bytes went there and back.
    pub fn let_go(self) -> u64 {
        let Self { target, mut mover, .. } = self;
        mover.loosen();
        let report: Report = mover.hear();
        assert!(report.failed.is_none(), "{report:?}");
        mover.let_go();
        target.let_go();
        report.rounds
    }

    /// Lets both end after the mover's report.
    pub fn end(self) {
        self.mover.let_go();
        self.target.let_go();
    }
}

fn lease(client: &Client, pd: &Arc<ProtectionDomain>, region: RegionName, length: u64) -> Leased {
    let request: Map = request(region, ByteLen::new(length), &[rxe()]);
    Leased::new(client, pd, &request)
}

fn connect(pd: &Arc<ProtectionDomain>, stream: &TcpStream) -> Endpoint {
    let prepared = PreparedEndpoint::new(pd, EndpointConfig::default()).unwrap();
    prepared.connect(stream, soon()).unwrap_or_else(|error| panic!("{}", in_words(&error)))
}

/// The process whose memory is written and read.
pub fn be_target() {
    let (client, pd) = (Client::connect().unwrap(), ProtectionDomain::new(&device()).unwrap());
    let leased = lease(&client, &pd, told().unwrap(), MESSAGE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(listener.local_addr().unwrap().port());
    say(&Ready { lease: leased.lease.info().id, port });
    let stream = listener.accept().unwrap().0;
    let endpoint = connect(&pd, &stream);
    exchange::send(&stream, &endpoint.describe(&leased.side.whole()).unwrap(), soon()).unwrap();
    until_let_go();
}

/// The process that writes and reads.
pub fn be_mover() {
    let (client, pd) = (Client::connect().unwrap(), ProtectionDomain::new(&device()).unwrap());
    let (region, port): (RegionName, u16) = told().unwrap();
    // What goes there, and what comes back.
    let leased = lease(&client, &pd, region, 2 * MESSAGE);
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut endpoint = connect(&pd, &stream);
    let remote: RemoteRegion = exchange::receive(&stream, soon()).unwrap();
    let length = usize::try_from(MESSAGE).unwrap();
    let (there, back) = (leased.side.slice(0, MESSAGE), leased.side.slice(MESSAGE, MESSAGE));
    let mut found = vec![0; length];
    let mut move_bytes = |round| {
        let sent = pattern::bytes(round, length);
        leased.side.memory.put(0, &sent);
        endpoint.write(&there, &remote, ByteLen::ZERO, soon())?;
        endpoint.read(&back, &remote, ByteLen::ZERO, soon())?;
        leased.side.memory.get(length, &mut found);
        assert!(found == sent, "round {round}: {:?}", pattern::difference(&found, &sent));
        thread::sleep(BREATH);
        Ok(())
    };
    move_bytes(u64::MAX).unwrap_or_else(|error: TransferError| panic!("{}", in_words(&error)));
    say(&Ready { lease: leased.lease.info().id, port: None });
    let (rounds, outcome) = repeat_until_let_go(move_bytes);
    say(&Report { rounds, failed: outcome.err().map(|error| failed(&error)) });
    until_let_go();
}

fn failed(error: &TransferError) -> Failed {
    let status = match error {
        TransferError::Work { source: WorkError { status, .. }, .. } => Some(status.code()),
        _ => None,
    };
    Failed { status, words: in_words(error) }
}
