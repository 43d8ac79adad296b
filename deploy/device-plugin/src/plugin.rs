//! The plugin's side of the API: what the kubelet calls.

use std::collections::{BTreeSet, HashMap};
use std::future::ready;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use peermem::proto::RegionName;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::api::{
    self, AllocateRequest, AllocateResponse, ContainerAllocateRequest, ContainerAllocateResponse,
    DevicePluginOptions, Empty, ListAndWatchResponse, Mount,
};
use crate::offer::{Offer, region_of};

/// Answers the kubelet out of the current offer. Clones share it.
#[derive(Debug, Clone)]
pub struct Plugin {
    offer: watch::Receiver<Offer>,
    shares: NonZeroU32,
    socket: PathBuf,
}

impl Plugin {
    /// For pods that reach the daemon at `socket`, with each region given to `shares` containers at most.
    pub fn new(offer: watch::Receiver<Offer>, shares: NonZeroU32, socket: PathBuf) -> Self {
        Self { offer, shares, socket }
    }

    /// Answers one call.
    pub(crate) async fn answer(self, call: http::Request<Body>) -> http::Response<Body> {
        match call.uri().path() {
            api::GET_OPTIONS => {
                let options =
                    service_fn(|_: Request<Empty>| ready(Ok(Response::new(DevicePluginOptions {}))));
                Grpc::new(ProstCodec::default()).unary(options, call).await
            }
            api::LIST_AND_WATCH => {
                let devices = service_fn(|_: Request<Empty>| ready(Ok(Response::new(self.devices()))));
                Grpc::new(ProstCodec::default()).server_streaming(devices, call).await
            }
            api::ALLOCATE => {
                let allocate = service_fn(|request: Request<AllocateRequest>| {
                    ready(self.allocate(request.get_ref()).map(Response::new))
                });
                Grpc::new(ProstCodec::default()).unary(allocate, call).await
            }
            other => {
                Status::unimplemented(format!("{other} isn't among the calls that this plugin asked for"))
                    .into_http()
            }
        }
    }

    /// All devices, now and after every change.
    fn devices(&self) -> impl Stream<Item = Result<ListAndWatchResponse, Status>> + Send + 'static {
        let shares = self.shares;
        WatchStream::new(self.offer.clone())
            .map(move |offer| Ok(ListAndWatchResponse { devices: offer.devices(shares) }))
    }

    fn allocate(&self, request: &AllocateRequest) -> Result<AllocateResponse, Status> {
        let containers = request.container_requests.iter().map(|container| self.container(container));
        Ok(AllocateResponse { container_responses: containers.collect::<Result<_, _>>()? })
    }

    /// The socket and the regions' names; two shares of one region are one region.
    fn container(&self, request: &ContainerAllocateRequest) -> Result<ContainerAllocateResponse, Status> {
        let regions =
            request.devices_ids.iter().map(|id| self.region(id)).collect::<Result<BTreeSet<_>, _>>()?;
        let regions: Vec<_> = regions.iter().map(RegionName::as_str).collect();
        // The folder, not the socket: a daemon that is started again makes a new one in it.
        let folder = self.socket.parent().unwrap_or(Path::new("/")).display().to_string();
        tracing::info!(regions = regions.join(","), "allocated");
        Ok(ContainerAllocateResponse {
            envs: HashMap::from([
                ("PEERMEM_REGION".to_owned(), regions.join(",")),
                ("PEERMEMD_SOCKET".to_owned(), self.socket.display().to_string()),
            ]),
            mounts: vec![Mount { container_path: folder.clone(), host_path: folder, read_only: true }],
        })
    }

    fn region(&self, device_id: &str) -> Result<RegionName, Status> {
        region_of(device_id)
            .filter(|region| self.offer.borrow().has(region))
            .ok_or_else(|| Status::not_found(format!("no region of this node is device {device_id:?}")))
    }
}
