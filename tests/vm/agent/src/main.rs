//! The agent: takes commands from the host, one at a time, and streams back what they print.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use peermem_vm_agent::{Frame, PORT_NAME};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long output is awaited after the command ended: what it left in the background may keep
/// its pipes open for ever.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// The process group of the running command, for `Frame::Kill`.
type Running = Arc<Mutex<Option<Pid>>>;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peermem-vm-agent: {PORT_NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(format!("/dev/virtio-ports/{PORT_NAME}"))?;
    let (mut requests, replies) = (port.try_clone()?, Arc::new(Mutex::new(port)));
    let running = Running::default();
    send(&replies, &Frame::Ready)?;
    loop {
        match Frame::read_from(&mut requests)? {
            Frame::Run(argv) => {
                let (replies, running) = (Arc::clone(&replies), Arc::clone(&running));
                thread::spawn(move || {
                    let status = run(&argv, &replies, &running).unwrap_or_else(|error| {
                        let text = format!("peermem-vm-agent: {}: {error}\n", argv.join(" "));
                        // When the port is gone too, so is everybody who could be told.
                        let _ = send(&replies, &Frame::Stderr(text.into_bytes()));
                        127
                    });
                    let _ = send(&replies, &Frame::Exit(status));
                });
            }
            Frame::Kill => kill(&running)?,
            other => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a request: {other:?}")));
            }
        }
    }
}

/// The lock keeps frames of two threads apart: the port's driver splits long writes.
fn send(port: &Mutex<File>, frame: &Frame) -> io::Result<()> {
    frame.write_to(&mut *locked(port))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(argv: &[String], replies: &Arc<Mutex<File>>, running: &Running) -> io::Result<i32> {
    let [program, arguments @ ..] = argv else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "empty command"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    *locked(running) = Some(Pid::from_child(&child));
    let done = forward_output(&mut child, replies);
    let status = child.wait()?;
    *locked(running) = None;
    // Nobody sends: this waits for the forwarders to hang up.
    let _ = done.recv_timeout(OUTPUT_GRACE);
    Ok(exit_code(status))
}

/// Starts forwarding; the channel hangs up when both streams have ended.
fn forward_output(child: &mut Child, replies: &Arc<Mutex<File>>) -> mpsc::Receiver<()> {
    let (alive, done) = mpsc::channel();
    let stdout =
        child.stdout.take().map(|pipe| (Box::new(pipe) as Box<dyn Read + Send>, Frame::Stdout as fn(_) -> _));
    let stderr =
        child.stderr.take().map(|pipe| (Box::new(pipe) as Box<dyn Read + Send>, Frame::Stderr as fn(_) -> _));
    for (mut pipe, frame) in [stdout, stderr].into_iter().flatten() {
        let (replies, alive) = (Arc::clone(replies), alive.clone());
        thread::spawn(move || {
            let _alive = alive;
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if send(&replies, &frame(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
    }
    done
}

fn kill(running: &Running) -> io::Result<()> {
    match *locked(running) {
        Some(group) => Ok(kill_process_group(group, Signal::KILL)?),
        None => Ok(()),
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}
