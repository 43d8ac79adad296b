//! A real daemon on a temporary socket, and a client that speaks raw messages to it.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use peermem_wire::{Fill, Outgoing, Reader};
use serde_json::{Value, json};

/// Longer than anything here takes; what passes it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// With one emulated region of 1 MiB, `emulated`.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// With `config` beside the emulated region.
    pub fn with_config(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::in_folder(folder, config)
    }

    /// With its metrics elsewhere than at a free port.
    pub fn with_metrics(address: &str) -> Self {
        Self::begin(tempfile::tempdir().unwrap(), "", address)
    }

    pub fn in_folder(folder: tempfile::TempDir, config: &str) -> Self {
        Self::begin(folder, config, "127.0.0.1:0")
    }

    fn begin(folder: tempfile::TempDir, config: &str, metrics: &str) -> Self {
        let (mut child, log) = spawn(folder.path(), config, &["--metrics", metrics]);
        let began = Instant::now();
        while !log.lock().unwrap().contains("serving ") {
            assert!(child.try_wait().unwrap().is_none(), "the daemon ended:\n{}", log.lock().unwrap());
            assert!(began.elapsed() < PATIENCE, "the daemon doesn't start:\n{}", log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, folder, log }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("peermemd.sock")
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.socket())
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the daemon doesn't stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives the folder, with what the daemon left in it.
    pub fn into_folder(mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Where it serves metrics.
    pub fn metrics_address(&self) -> String {
        let log = self.log();
        let rest = log.split_once("metrics at http://").unwrap().1;
        rest.split_once("/metrics").unwrap().0.to_owned()
    }

    /// What it answers to that request there, with the head.
    pub fn scrape(&self, request: &str) -> String {
        let stream = TcpStream::connect(self.metrics_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(stream, request)
    }

    /// A sample of its metrics, by its name and labels.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.scrape("GET /metrics HTTP/1.1\r\n\r\n");
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }
}

/// Sends a request and reads to the end.
pub fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// Starts a daemon without waiting for anything; its log collects in the string.
pub fn spawn(folder: &Path, config: &str, arguments: &[&str]) -> (Child, Arc<Mutex<String>>) {
    let path = folder.join("peermemd.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["--emulate", "1MiB", "--config"])
        .arg(path)
        .arg("--socket")
        .arg(folder.join("peermemd.sock"))
        .args(arguments)
        .env_remove("JOURNAL_STREAM")
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = spawn_copy(&mut command);
    let log = Arc::new(Mutex::new(String::new()));
    let (stderr, collected) = (child.stderr.take().unwrap(), Arc::clone(&log));
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = collected.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    (child, log)
}

/// Starts a program that this test has copied. What another test forks has the copy open for writing until it executes its own program
/// (`ETXTBSY`).
pub fn spawn_copy(command: &mut Command) -> Child {
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned.unwrap(),
        }
    }
}

/// Starts a daemon as systemd does that has bound its socket: passed as descriptor 3, by this name.
pub fn activate(folder: &Path, name: &str, socket: OwnedFd) -> Child {
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; exec 3<&0 </dev/null; exec \"$0\" \"$@\""
    );
    let config = folder.join("peermemd.toml");
    std::fs::write(&config, "").unwrap();
    Command::new("sh")
        .args(["-c", &script])
        .arg(binary())
        .args(["--emulate", "1MiB", "--config"])
        .arg(config)
        .stdin(socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a daemon that is expected to end by itself: its exit code and what it said.
pub fn run_to_end(folder: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let (mut child, log) = spawn(folder, config, arguments);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it was to end, and runs:\n{}", log.lock().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // The collecting thread may still be at the last lines.
    while Arc::strong_count(&log) > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let said = log.lock().unwrap().clone();
    (status.code(), said)
}

/// Speaks messages, right or wrong.
pub struct Client {
    pub stream: UnixStream,
    reader: Reader,
}

impl Client {
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, reader: Reader::new() }
    }

    pub fn send(&mut self, message: &[u8], fds: Vec<OwnedFd>) {
        let mut outgoing = Outgoing::new(message.to_vec(), fds);
        while !outgoing.send(&self.stream).unwrap() {}
    }

    /// Sends a message, unless the daemon has gone.
    pub fn try_send(&mut self, message: &[u8]) -> bool {
        let mut outgoing = Outgoing::new(message.to_vec(), Vec::new());
        loop {
            match outgoing.send(&self.stream) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// The next reply and its descriptors, or `None` when the daemon has hung up.
    pub fn receive(&mut self) -> Option<(Value, Vec<OwnedFd>)> {
        loop {
            if let Some(message) = self.reader.next().unwrap() {
                let count = message.fds.count();
                return Some((
                    serde_json::from_slice(&message.bytes).unwrap(),
                    message.fds.take(count).unwrap(),
                ));
            }
            match self.reader.fill(&self.stream) {
                Ok(Fill::Data) => {}
                Ok(Fill::End) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// Calls a method of the broker.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.call_with(method, parameters, Vec::new()).0
    }

    pub fn call_with(&mut self, method: &str, parameters: Value, fds: Vec<OwnedFd>) -> (Value, Vec<OwnedFd>) {
        let message = json!({ "method": format!("io.peermem.Broker.{method}"), "parameters": parameters });
        self.send(message.to_string().as_bytes(), fds);
        self.receive().expect("the daemon hung up")
    }

    /// Maps `length` bytes of the emulated region: the lease's number and its memory.
    pub fn map(&mut self, length: u64) -> (u64, OwnedFd) {
        let (reply, mut fds) = self.call_with("Map", map_request(length), Vec::new());
        assert_eq!(fds.len(), 1, "{reply}");
        (reply["parameters"]["lease"]["id"].as_u64().unwrap(), fds.remove(0))
    }

    /// What the emulated region has left.
    pub fn free(&mut self) -> u64 {
        self.call("ListRegions", json!({}))["parameters"]["regions"][0]["free"].as_u64().unwrap()
    }

    /// Proves that the connection still works.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        assert_eq!(self.call("GetStatus", json!({}))["parameters"]["protocol"], 1);
    }
}

pub fn map_request(length: u64) -> Value {
    json!({ "region": "emulated", "length": length, "initiators": ["emulated"], "direction": "bidirectional" })
}

/// The last part of a reply's error code.
pub fn code(reply: &Value) -> &str {
    reply["error"].as_str().unwrap_or("no error").rsplit('.').next().unwrap()
}

/// Asks until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let began = Instant::now();
    while !check() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether every copy of the other end of a pipe is closed.
pub fn is_closed(pipe: OwnedFd) -> bool {
    std::fs::File::from(pipe).read(&mut [0]).unwrap() == 0
}

/// The daemon's binary; a test that runs as another user brings a copy which that user may run.
fn binary() -> PathBuf {
    std::env::var_os("PEERMEMD_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_peermemd").into(), PathBuf::from)
}
