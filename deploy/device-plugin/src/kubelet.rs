//! Being a plugin of the kubelet's: serving beside it, registering, and again whenever it starts anew.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use http::uri::PathAndQuery;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::client::Grpc;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::api::{Empty, KUBELET_SOCKET, REGISTER, RegisterRequest, VERSION};
use crate::plugin::Plugin;

/// The name of the plugin's socket, beside the kubelet's.
pub const ENDPOINT: &str = "peermem.sock";

/// How often the kubelet is looked for. It has no way to say that it started, but to remove all plugins' sockets and to make
/// its own anew.
const POLL: Duration = Duration::from_millis(500);

/// Why the plugin can't be one.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Its own socket.
    #[error("can't serve at {path}")]
    Serve {
        /// Where.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The kubelet says no. It won't think again by itself: an older API, or a resource that another plugin has.
    #[error("the kubelet doesn't take the plugin for {resource}: {}", status.message())]
    Refused {
        /// What was to be advertised.
        resource: String,
        /// Its answer.
        status: Status,
    },
}

/// Serves and registers as the plugin of `resource` (`DOMAIN/NAME`) in the kubelet's `folder`, for ever. Waits for a kubelet
/// that isn't there.
///
/// # Errors
/// [`RegisterError`].
pub async fn serve(plugin: Plugin, folder: &Path, resource: &str) -> Result<Infallible, RegisterError> {
    let [kubelet, own] = [KUBELET_SOCKET, ENDPOINT].map(|name| folder.join(name));
    loop {
        let Some(generation) = Generation::of(&kubelet) else {
            sleep(POLL).await;
            continue;
        };
        // Serving before registering: the kubelet calls back at once. Ends when dropped.
        let mut server = JoinSet::new();
        server.spawn(answer_calls(plugin.clone(), bind(&own)?));
        match register(&kubelet, resource).await {
            Ok(_) => tracing::info!(resource, "registered"),
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tracing::debug!(%status, "the kubelet isn't ready");
                sleep(POLL).await;
                continue;
            }
            Err(status) => return Err(RegisterError::Refused { resource: resource.to_owned(), status }),
        }
        while Generation::of(&kubelet).as_ref() == Some(&generation) && own.exists() {
            sleep(POLL).await;
        }
        tracing::info!("the kubelet has gone or started anew");
    }
}

fn bind(path: &Path) -> Result<UnixListener, RegisterError> {
    let failed = |source| RegisterError::Serve { path: path.display().to_string(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    UnixListener::bind(path).map_err(failed)
}

async fn answer_calls(plugin: Plugin, listener: UnixListener) {
    let service = service_fn(move |call| {
        let plugin = plugin.clone();
        async move { Ok::<_, Infallible>(plugin.answer(call).await) }
    });
    let served = Server::builder().serve_with_incoming(service, UnixListenerStream::new(listener)).await;
    if let Err(error) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "can't serve the kubelet any more");
    }
}

async fn register(kubelet: &Path, resource: &str) -> Result<Response<Empty>, Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Endpoint::try_from(format!("unix:{}", kubelet.display())).map_err(unavailable)?;
    let mut client = Grpc::new(endpoint.connect().await.map_err(unavailable)?);
    client.ready().await.map_err(unavailable)?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: ENDPOINT.to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    client.unary(Request::new(request), PathAndQuery::from_static(REGISTER), ProstCodec::default()).await
}

/// Which start of the kubelet a socket is from. The inode's number alone may come again.
#[derive(Debug, PartialEq, Eq)]
struct Generation {
    inode: u64,
    made: (i64, i64),
}

impl Generation {
    fn of(socket: &Path) -> Option<Self> {
        let found = fs::metadata(socket).ok()?;
        Some(Self { inode: found.ino(), made: (found.ctime(), found.ctime_nsec()) })
    }
}
