//! What a client may say to the socket, and what comes of it when it says something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Write, net::Shutdown, os::fd::OwnedFd};

use peermem_wire::MAX_MESSAGE;
use serde_json::json;
use support::{Daemon, code, eventually, is_closed, map_request};

#[test]
fn a_service_says_what_it_is() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(br#"{"method":"org.varlink.service.GetInfo"}"#, vec![]);
    let info = client.receive().unwrap().0;
    assert_eq!(info["parameters"]["product"], "peermemd");
    for interface in info["parameters"]["interfaces"].as_array().unwrap() {
        let ask = json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": { "interface": interface } });
        client.send(ask.to_string().as_bytes(), vec![]);
        let definition =
            client.receive().unwrap().0["parameters"]["description"].as_str().unwrap().to_owned();
        assert!(definition.contains(&format!("interface {}", interface.as_str().unwrap())));
    }
    client.send(
        br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"a.b"}}"#,
        vec![],
    );
    assert_eq!(code(&client.receive().unwrap().0), "InterfaceNotFound");
}

#[test]
fn a_wrong_call_gets_its_standard_error_and_the_connection_lives_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for (message, expected, field, value) in [
        (r#"{"method":"io.peermem.Broker.Nope"}"#, "MethodNotFound", "method", "io.peermem.Broker.Nope"),
        (r#"{"method":"io.peermem.Other.Map"}"#, "InterfaceNotFound", "interface", "io.peermem.Other"),
        (r#"{"method":"nothing"}"#, "MethodNotFound", "method", "nothing"),
        (r#"{"method":"io.peermem.Broker.Unmap"}"#, "InvalidParameter", "parameter", "(parameters)"),
        (
            r#"{"method":"io.peermem.Broker.Unmap","parameters":{"lease":"x"}}"#,
            "InvalidParameter",
            "parameter",
            "lease",
        ),
        (
            r#"{"method":"io.peermem.Broker.Unmap","parameters":{"lease":1,"leese":2}}"#,
            "InvalidParameter",
            "parameter",
            "leese",
        ),
        (
            r#"{"method":"io.peermem.Broker.Unmap","parameters":[]}"#,
            "InvalidParameter",
            "parameter",
            "(parameters)",
        ),
        ("rubbish", "InvalidParameter", "parameter", "(message)"),
        ("", "InvalidParameter", "parameter", "(message)"),
        ("[]", "InvalidParameter", "parameter", "(message)"),
        (r#"{"method":7}"#, "InvalidParameter", "parameter", "(message)"),
        (r#"{"method":"io.peermem.Broker.Watch"}"#, "ExpectedMore", "nothing", ""),
    ] {
        client.send(message.as_bytes(), vec![]);
        let reply = client.receive().unwrap().0;
        assert_eq!(code(&reply), expected, "{message}");
        assert!(reply["error"].as_str().unwrap().starts_with("org.varlink.service."), "{reply}");
        assert_eq!(reply["parameters"][field].as_str().unwrap_or_default(), value, "{message}");
        assert!(reply["parameters"]["message"].as_str().unwrap().len() > 10, "{reply}");
    }
    // Invalid UTF-8, and nesting without end.
    client.send(b"\xff\xfe", vec![]);
    assert_eq!(code(&client.receive().unwrap().0), "InvalidParameter");
    client.send("[".repeat(MAX_MESSAGE).as_bytes(), vec![]);
    assert_eq!(code(&client.receive().unwrap().0), "InvalidParameter");
    client.assert_alive();
}

#[test]
fn calls_sent_ahead_are_answered_in_their_order() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for lease in 1000..1200 {
        client.send(
            json!({ "method": "io.peermem.Broker.Unmap", "parameters": { "lease": lease } })
                .to_string()
                .as_bytes(),
            vec![],
        );
    }
    for lease in 1000..1200 {
        assert_eq!(client.receive().unwrap().0["parameters"]["lease"], lease);
    }
}

#[test]
fn a_call_that_wants_no_reply_gets_none() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(br#"{"method":"io.peermem.Broker.GetStatus","oneway":true}"#, vec![]);
    client.send(br#"{"method":"io.peermem.Broker.Nope","oneway":true}"#, vec![]);
    client.assert_alive();
    // Who is refused without a reply is still told of.
    eventually("the log tells it", || daemon.log().contains("call refused"));
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_connection_closed() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    // The daemon may hang up before it has all of it.
    let _ = client.stream.write_all(&vec![b' '; MAX_MESSAGE + 2]);
    let reply = client.receive().unwrap().0;
    assert!(reply["parameters"]["message"].as_str().unwrap().contains("longer than 65536 bytes"), "{reply}");
    assert!(client.receive().is_none());
    daemon.connect().assert_alive();
}

#[test]
fn half_a_message_is_waited_for_and_then_given_up() {
    let daemon = Daemon::with_config("[server]\nstall_secs = 1\n");
    let mut client = daemon.connect();
    client.stream.write_all(br#"{"method":"#).unwrap();
    assert!(client.receive().is_none());
    eventually("the log says why", || daemon.log().contains("didn't finish a message"));
    daemon.connect().assert_alive();
}

#[test]
fn a_client_that_says_nothing_is_left_alone() {
    let daemon = Daemon::with_config("[server]\nstall_secs = 1\n");
    let mut silent = daemon.connect();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    silent.assert_alive();
}

#[test]
fn a_truncated_message_ends_with_its_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.assert_alive();
    let before = daemon.descriptors();
    (&client.stream).write_all(br#"{"method":"io.peermem.Bro"#).unwrap();
    client.stream.shutdown(Shutdown::Both).unwrap();
    eventually("its descriptors are closed", || daemon.descriptors() < before);
    daemon.connect().assert_alive();
}

#[test]
fn descriptors_that_a_call_does_not_take_are_closed() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for (method, count) in [("GetStatus", 1), ("Register", 0), ("Register", 2), ("Register", 4)] {
        let (read, write) = std::io::pipe().unwrap();
        let write = OwnedFd::from(write);
        let fds = (0..count).map(|_| write.try_clone().unwrap()).collect();
        drop(write);
        let (reply, _) = client.call_with(method, json!({}), fds);
        assert_eq!(code(&reply), "WrongDescriptorCount", "{method} with {count}: {reply}");
        assert_eq!(reply["parameters"]["got"], count);
        assert!(is_closed(read.into()), "{method} keeps a descriptor");
    }
    client.assert_alive();
}

#[test]
fn more_descriptors_than_any_call_takes_are_closed() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let (read, write) = std::io::pipe().unwrap();
    let write = OwnedFd::from(write);
    let all: Vec<_> = (0..200).map(|_| write.try_clone().unwrap()).collect();
    let borrowed: Vec<_> = all.iter().map(std::os::fd::AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&borrowed)));
    let message = b"{\"method\":\"io.peermem.Broker.GetStatus\"}\0";
    rustix::net::sendmsg(
        &client.stream,
        &[std::io::IoSlice::new(message)],
        &mut control,
        rustix::net::SendFlags::empty(),
    )
    .unwrap();
    drop((all, write));
    let reply = client.receive().unwrap().0;
    assert_eq!(reply["parameters"]["got"], 200, "{reply}");
    assert!(is_closed(read.into()));
    client.assert_alive();
}

#[test]
fn the_version_is_agreed_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    assert_eq!(client.call("Hello", json!({ "protocol": 1 }))["parameters"]["protocol"], 1);
    let reply = client.call("Hello", json!({ "protocol": 2 }));
    assert_eq!(code(&reply), "UnsupportedVersion");
    assert_eq!(
        (&reply["parameters"]["requested"], &reply["parameters"]["supported"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(code(&client.call("Hello", json!({ "protocol": -1 }))), "InvalidParameter");
    client.assert_alive();
}

#[test]
fn what_a_client_receives_can_be_given_away_and_outlives_the_call() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let (_, fd) = client.map(4096);
    let (reply, fds) = client.call_with("Map", map_request(8192), vec![]);
    assert_eq!(reply["parameters"]["memory_fd"], 0);
    assert_eq!(rustix::fs::fstat(&fds[0]).unwrap().st_size, 8192);
    assert_eq!(rustix::fs::fstat(&fd).unwrap().st_size, 4096);
}

#[test]
fn a_client_of_another_pid_namespace_is_served_without_a_pid() {
    struct Killed(std::process::Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    assert!(rustix::process::geteuid().is_root(), "only root makes namespaces");
    // Of a client outside of its own namespace, the daemon's kernel tells no number: so the daemon goes into one.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("peermemd.sock");
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(env!("CARGO_BIN_EXE_peermemd"));
    command.args(["--emulate", "1MiB", "--config", "/dev/null", "--socket"]).arg(&socket);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _daemon = Killed(command.spawn().unwrap());
    eventually("the daemon serves", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut client = support::Client::connect(&socket);
    let (reply, _memory) = client.call_with("Map", map_request(4096), vec![]);
    assert_eq!(reply["parameters"]["lease"]["owner"]["pid"], 0, "{reply}");
    client.assert_alive();
}
