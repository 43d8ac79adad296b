//! Endpoints in two processes: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use peermem::{
    rdma::{Endpoint, EndpointConfig, PreparedEndpoint, RemoteRegion, TransferError, exchange, pattern},
    verbs::{ProtectionDomain, WorkStatus},
};
use peermem_proto::{ByteLen, Method};
use peermem_scenarios::{
    cmb,
    peers::{Side, device, in_words, soon},
};

const LEN: u64 = 1 << 20;
const PORT: &str = "PEERMEM_SCENARIO_PORT";

fn connect(pd: &Arc<ProtectionDomain>, stream: &TcpStream) -> Endpoint {
    let prepared = PreparedEndpoint::new(pd, EndpointConfig::default()).unwrap();
    prepared.connect(stream, soon()).unwrap_or_else(|error| panic!("{}", in_words(&error)))
}

/// The other process: offers a drive's CMB until the connection ends.
fn serve(port: &str) {
    let stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let pd = ProtectionDomain::new(&device()).unwrap();
    let endpoint = connect(&pd, &stream);
    let side = Side::new(&pd, cmb::memory(0, ByteLen::new(LEN)), Method::OnDemand);
    exchange::send(&stream, &endpoint.describe(&side.whole()).unwrap(), soon()).unwrap();
    // Ends when the stream does.
    let _ = exchange::receive::<()>(&stream, soon());
}

/// Runs this test's program again, as the serving process.
fn start_server(test: &str) -> (Child, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut program = Command::new(std::env::current_exe().unwrap());
    // Its report must not end up inside this one's; what goes wrong there is on standard error.
    let program =
        program.args(["--exact", "--nocapture", test]).env(PORT, port.to_string()).stdout(Stdio::null());
    let child = program.spawn().unwrap();
    (child, listener.accept().unwrap().0)
}

#[test]
fn a_killed_peer_is_noticed_and_told_in_words() {
    if let Ok(port) = std::env::var(PORT) {
        return serve(&port);
    }
    let (mut child, stream) = start_server("a_killed_peer_is_noticed_and_told_in_words");
    let pd = ProtectionDomain::new(&device()).unwrap();
    let mut endpoint = connect(&pd, &stream);
    let remote: RemoteRegion = exchange::receive(&stream, soon()).unwrap();
    assert_eq!((remote.method(), remote.length()), (Method::OnDemand, ByteLen::new(LEN)));

    let here = Side::new(&pd, cmb::memory(1, ByteLen::new(LEN)), Method::OnDemand);
    let data = pattern::bytes(3, 1 << 20);
    here.memory.write(0, &data).unwrap();
    endpoint.write(&here.whole(), &remote, ByteLen::ZERO, soon()).unwrap();
    here.memory.write(0, &vec![0; 1 << 20]).unwrap();
    endpoint.read(&here.whole(), &remote, ByteLen::ZERO, soon()).unwrap();
    let mut found = vec![0; 1 << 20];
    here.memory.read(0, &mut found).unwrap();
    assert!(found == data, "{:?}", pattern::difference(&found, &data));

    // The peer's own description carries what its device demands: an address inside a page isn't tried.
    let inside = endpoint.write(&here.slice(0, 4096), &remote, ByteLen::new(8), soon()).unwrap_err();
    assert!(matches!(inside, TransferError::Unaligned(_)), "{inside:?}");

    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    let error = endpoint.write(&here.whole(), &remote, ByteLen::ZERO, soon()).unwrap_err();
    let TransferError::Work { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.status, WorkStatus::RETRY_EXCEEDED, "{}", in_words(&error));
    assert!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
}
