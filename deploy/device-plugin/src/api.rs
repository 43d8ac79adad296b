//! The kubelet's device plugin API, `v1beta1`: the messages and calls that are used here.
//!
//! Names and field numbers are those of Kubernetes' `pkg/apis/deviceplugin/v1beta1/api.proto`; fields that are neither set
//! nor read are left out, which protobuf allows.

use std::collections::HashMap;

/// What a plugin says which it was made for.
pub const VERSION: &str = "v1beta1";
/// Where the kubelet and its plugins have their sockets.
pub const FOLDER: &str = "/var/lib/kubelet/device-plugins";
/// The kubelet's own socket there.
pub const KUBELET_SOCKET: &str = "kubelet.sock";
/// The longest id of a device, in bytes.
pub const MAX_DEVICE_ID: usize = 63;

/// A device that may be allocated.
pub const HEALTHY: &str = "Healthy";
/// One that may not, for now.
pub const UNHEALTHY: &str = "Unhealthy";

/// The kubelet's call that takes plugins: [`RegisterRequest`] to [`Empty`].
pub const REGISTER: &str = "/v1beta1.Registration/Register";
/// [`Empty`] to [`DevicePluginOptions`].
pub const GET_OPTIONS: &str = "/v1beta1.DevicePlugin/GetDevicePluginOptions";
/// [`Empty`] to a stream of [`ListAndWatchResponse`].
pub const LIST_AND_WATCH: &str = "/v1beta1.DevicePlugin/ListAndWatch";
/// [`AllocateRequest`] to [`AllocateResponse`].
pub const ALLOCATE: &str = "/v1beta1.DevicePlugin/Allocate";

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// Which calls beyond `ListAndWatch` and `Allocate` a plugin wants: none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DevicePluginOptions {}

/// A plugin that makes itself known.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterRequest {
    /// [`VERSION`].
    #[prost(string, tag = "1")]
    pub version: String,
    /// The name of its socket in [`FOLDER`].
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// What pods ask for, `DOMAIN/NAME`.
    #[prost(string, tag = "3")]
    pub resource_name: String,
    /// What else it wants.
    #[prost(message, optional, tag = "4")]
    pub options: Option<DevicePluginOptions>,
}

/// All devices, as they are now.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAndWatchResponse {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
}

/// What one container can be given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Device {
    /// Unique among the resource's devices on this node, [`MAX_DEVICE_ID`] bytes at most.
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`HEALTHY`] or [`UNHEALTHY`].
    #[prost(string, tag = "2")]
    pub health: String,
    /// Where it is.
    #[prost(message, optional, tag = "3")]
    pub topology: Option<TopologyInfo>,
}

/// The NUMA nodes that a device is near to.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopologyInfo {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
}

/// A NUMA node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Node {
    /// Its number.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// Devices for the containers of a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateRequest {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerAllocateRequest>,
}

/// Devices for one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateRequest {
    /// The ids of [`Device`]s.
    #[prost(string, repeated, tag = "1")]
    pub devices_ids: Vec<String>,
}

/// What the containers need, in the order of the request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateResponse {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerAllocateResponse>,
}

/// What one container needs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateResponse {
    /// Environment variables.
    #[prost(map = "string, string", tag = "1")]
    pub envs: HashMap<String, String>,
    /// Folders and files of the node.
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
}

/// A folder or file of the node, for a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mount {
    /// Where the container has it.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Where the node has it.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether the container may not write to it.
    #[prost(bool, tag = "3")]
    pub read_only: bool,
}
