//! Calls made by another process, of another user if need be: this test program again, as the test `role_of_a_caller`, which a
//! file that uses this has to have.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Client, spawn_copy};

const SOCKET: &str = "PEERMEM_TEST_SOCKET";
const CALLS: &str = "PEERMEM_TEST_CALLS";

/// In front of a reply, among what the test harness prints.
const MARK: &str = "@@ ";

/// Who is nobody.
pub const NOBODY: u32 = 65534;

/// A process that has made its calls, and is there until dropped.
pub struct Caller {
    child: Child,
    _folder: tempfile::TempDir,
    /// What it was answered.
    pub replies: Vec<Value>,
}

impl Caller {
    /// Lets a process of `user`, or else of this test's, make these calls, one after the other.
    pub fn start(user: Option<u32>, socket: &Path, calls: &[Value]) -> Self {
        // A copy that any user may run.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("caller");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(folder.path(), 0o755);
        open(socket.parent().unwrap(), 0o755);
        open(socket, 0o666);
        let mut command = Command::new(program);
        command.args(["--exact", "role_of_a_caller", "--ignored", "--nocapture"]);
        command.env(SOCKET, socket).env(CALLS, json!(calls).to_string()).current_dir("/");
        if let Some(user) = user {
            assert!(rustix::process::geteuid().is_root(), "only root starts processes of other users");
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn_copy(&mut command);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let replies = lines.filter_map(|line| Some(serde_json::from_str(line.strip_prefix(MARK)?).unwrap()));
        let replies: Vec<_> = replies.take(calls.len()).collect();
        assert_eq!(replies.len(), calls.len(), "the caller ended early");
        Self { child, _folder: folder, replies }
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call of the broker's.
pub fn call(method: &str, parameters: &Value) -> Value {
    json!({ "method": format!("io.peermem.Broker.{method}"), "parameters": parameters })
}

/// What the other process does: it keeps what it gets until it is ended.
pub fn play() {
    let mut client = Client::connect(Path::new(&std::env::var_os(SOCKET).unwrap()));
    let calls: Vec<Value> = serde_json::from_str(&std::env::var(CALLS).unwrap()).unwrap();
    let mut kept = Vec::new();
    for call in calls {
        client.send(call.to_string().as_bytes(), vec![]);
        let (reply, fds) = client.receive().unwrap();
        kept.push(fds);
        println!("\n{MARK}{reply}");
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
