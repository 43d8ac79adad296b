//! A kubelet that speaks the real API over real sockets, a real daemon, and the plugin's program between them.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::fs;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use http::uri::PathAndQuery;
use peermem_device_plugin::api::{self, Empty, ListAndWatchResponse, RegisterRequest};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

#[path = "../../../../tests/built.rs"]
mod built;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program, killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A folder for all sockets, with `peermemd --emulate` in it while one runs.
pub struct Node {
    folder: TempDir,
    daemon: Option<Killed>,
    plugin: Option<Killed>,
}

impl Node {
    pub fn new() -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap(), daemon: None, plugin: None };
        fs::create_dir(node.kubelet_folder()).unwrap();
        node
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("peermemd.sock")
    }

    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder.path().join("kubelet")
    }

    pub fn start_daemon(&mut self) {
        let mut daemon = Command::new(peermemd());
        daemon.args(["--emulate", "1MiB", "--log", "error", "--socket"]).arg(self.socket());
        self.daemon = Some(Killed(daemon.spawn().unwrap()));
    }

    pub fn kill_daemon(&mut self) {
        self.daemon = None;
    }

    pub fn start_plugin(&mut self, arguments: &[&str]) {
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_peermem-device-plugin"));
        plugin.args(["--log", "error", "--socket"]).arg(self.socket());
        plugin.arg("--kubelet").arg(self.kubelet_folder()).args(arguments);
        self.plugin = Some(Killed(plugin.spawn().unwrap()));
    }

    /// How the plugin's program ends, by itself.
    pub async fn plugin_ends(&mut self) -> bool {
        let mut plugin = self.plugin.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || plugin.0.wait().unwrap().success());
        in_time("the plugin ends", ended).await.unwrap()
    }
}

/// The kubelet's half of the API, until dropped.
pub struct Kubelet {
    folder: PathBuf,
    registrations: mpsc::UnboundedReceiver<RegisterRequest>,
    _server: JoinSet<()>,
}

impl Kubelet {
    /// Starts as the real one does: it removes every plugin's socket, and then makes its own.
    pub fn start(folder: &Path) -> Self {
        Self::answering(folder, |_| Ok(Response::new(Empty {})))
    }

    /// Starts with this answer to whoever registers.
    pub fn answering(
        folder: &Path,
        answer: impl Fn(&RegisterRequest) -> Result<Response<Empty>, Status> + Clone + Send + Sync + 'static,
    ) -> Self {
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let listener = UnixListener::bind(folder.join(api::KUBELET_SOCKET)).unwrap();
        let (sender, registrations) = mpsc::unbounded_channel();
        let service = service_fn(move |call: http::Request<Body>| {
            let (sender, answer) = (sender.clone(), answer.clone());
            async move {
                assert_eq!(call.uri().path(), api::REGISTER);
                let register = service_fn(move |request: Request<RegisterRequest>| {
                    let answer = answer(request.get_ref());
                    sender.send(request.into_inner()).unwrap();
                    ready(answer)
                });
                let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
                Ok::<_, std::convert::Infallible>(grpc.unary(register, call).await)
            }
        });
        let mut server = JoinSet::new();
        server.spawn(async move {
            Server::builder().serve_with_incoming(service, UnixListenerStream::new(listener)).await.unwrap();
        });
        Self { folder: folder.to_owned(), registrations, _server: server }
    }

    pub async fn registration(&mut self) -> RegisterRequest {
        in_time("a plugin registers", self.registrations.recv()).await.unwrap()
    }

    /// A connection to the plugin that registered with `endpoint`.
    pub async fn dial(&self, endpoint: &str) -> PluginClient {
        let uri = format!("unix:{}", self.folder.join(endpoint).display());
        let channel = Endpoint::try_from(uri).unwrap().connect().await.unwrap();
        PluginClient(tonic::client::Grpc::new(channel))
    }
}

/// The calls that a kubelet makes.
pub struct PluginClient(tonic::client::Grpc<Channel>);

impl PluginClient {
    pub async fn call<Q, R>(&mut self, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let reply = self.0.unary(Request::new(request), path, ProstCodec::<Q, R>::default());
        in_time("the plugin replies", reply).await.map(Response::into_inner)
    }

    pub async fn watch(&mut self) -> Devices {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static(api::LIST_AND_WATCH);
        let codec = ProstCodec::<Empty, ListAndWatchResponse>::default();
        Devices(self.0.server_streaming(Request::new(Empty {}), path, codec).await.unwrap().into_inner())
    }
}

/// The stream of device lists.
pub struct Devices(Streaming<ListAndWatchResponse>);

impl Devices {
    /// Waits until the list is this one: ids and health, by id.
    pub async fn become_these(&mut self, expected: &[(&str, &str)]) {
        let mut last = Vec::new();
        let wait = async {
            loop {
                let list = self.0.message().await.unwrap().expect("the stream goes on");
                last = list.devices.into_iter().map(|device| (device.id, device.health)).collect();
                if last.iter().map(|(id, health)| (id.as_str(), health.as_str())).eq(expected.iter().copied())
                {
                    return;
                }
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("the devices didn't become {expected:?}: {last:?}");
        }
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("within {PATIENCE:?}: {what}"))
}

fn peermemd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built::program("peermemd", env!("CARGO_BIN_EXE_peermem-device-plugin")))
}
