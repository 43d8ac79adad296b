//! The plugin between a kubelet and a daemon.
#![allow(clippy::unwrap_used)]

mod support;

use peermem_device_plugin::api::{
    self, AllocateRequest, AllocateResponse, ContainerAllocateRequest, DevicePluginOptions, Empty, HEALTHY,
    RegisterRequest, UNHEALTHY,
};
use prost::Message;
use support::{Kubelet, Node};
use tonic::{Code, Status};

fn allocation(containers: &[&[&str]]) -> AllocateRequest {
    let container = |ids: &&[&str]| ContainerAllocateRequest {
        devices_ids: ids.iter().map(ToString::to_string).collect(),
    };
    AllocateRequest { container_requests: containers.iter().map(container).collect() }
}

#[tokio::test]
async fn it_registers_lists_and_allocates() {
    let mut node = Node::new();
    let mut kubelet = Kubelet::start(&node.kubelet_folder());
    node.start_daemon();
    node.start_plugin(&["--shares", "2"]);
    let registration = kubelet.registration().await;
    assert_eq!(
        registration,
        RegisterRequest {
            version: "v1beta1".into(),
            endpoint: "peermem.sock".into(),
            resource_name: "peermem.io/region".into(),
            options: None,
        }
    );
    let mut plugin = kubelet.dial(&registration.endpoint).await;
    let options: DevicePluginOptions = plugin.call(api::GET_OPTIONS, Empty {}).await.unwrap();
    assert_eq!(options, DevicePluginOptions {}, "nothing but the two calls that every plugin has");
    plugin.watch().await.become_these(&[("emulated/0", HEALTHY), ("emulated/1", HEALTHY)]).await;

    let request = allocation(&[&["emulated/1"], &["emulated/0", "emulated/1"]]);
    let reply: AllocateResponse = plugin.call(api::ALLOCATE, request).await.unwrap();
    assert_eq!(reply.container_responses.len(), 2);
    let folder = node.socket().parent().unwrap().display().to_string();
    for container in reply.container_responses {
        assert_eq!(container.envs["PEERMEM_REGION"], "emulated");
        assert_eq!(container.envs["PEERMEMD_SOCKET"], node.socket().display().to_string());
        let [mount] = &container.mounts[..] else { panic!("{:?}", container.mounts) };
        assert_eq!((&mount.container_path, &mount.host_path, mount.read_only), (&folder, &folder, true));
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_allocated() {
    let mut node = Node::new();
    let mut kubelet = Kubelet::start(&node.kubelet_folder());
    node.start_daemon();
    node.start_plugin(&[]);
    let registration = kubelet.registration().await;
    let mut plugin = kubelet.dial(&registration.endpoint).await;
    plugin.watch().await.become_these(&[("emulated/0", HEALTHY)]).await;
    for id in ["elsewhere/0", "emulated", "", "../0"] {
        let refused =
            plugin.call::<_, AllocateResponse>(api::ALLOCATE, allocation(&[&[id]])).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains(&format!("{id:?}")), "{refused}");
    }
    let unknown = plugin.call::<_, Empty>("/v1beta1.DevicePlugin/PreStartContainer", Empty {}).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn it_registers_again_with_a_kubelet_that_started_anew() {
    let mut node = Node::new();
    node.start_daemon();
    // The plugin may come first.
    node.start_plugin(&[]);
    for _ in 0..3 {
        let mut kubelet = Kubelet::start(&node.kubelet_folder());
        let registration = kubelet.registration().await;
        let mut plugin = kubelet.dial(&registration.endpoint).await;
        plugin.watch().await.become_these(&[("emulated/0", HEALTHY)]).await;
    }
}

#[tokio::test]
async fn a_daemon_that_goes_makes_its_regions_unhealthy_until_it_is_back() {
    let mut node = Node::new();
    let mut kubelet = Kubelet::start(&node.kubelet_folder());
    node.start_plugin(&[]);
    let registration = kubelet.registration().await;
    let mut plugin = kubelet.dial(&registration.endpoint).await;
    let mut devices = plugin.watch().await;
    devices.become_these(&[]).await;
    node.start_daemon();
    devices.become_these(&[("emulated/0", HEALTHY)]).await;
    node.kill_daemon();
    devices.become_these(&[("emulated/0", UNHEALTHY)]).await;
    node.start_daemon();
    devices.become_these(&[("emulated/0", HEALTHY)]).await;
}

#[tokio::test]
async fn a_kubelet_that_does_not_want_it_ends_it() {
    let mut node = Node::new();
    let no = |request: &RegisterRequest| Err(Status::unknown(format!("{} is taken", request.resource_name)));
    let mut kubelet = Kubelet::answering(&node.kubelet_folder(), no);
    node.start_plugin(&["--resource", "example.com/memory"]);
    assert_eq!(kubelet.registration().await.resource_name, "example.com/memory");
    assert!(!node.plugin_ends().await, "its status tells of a failure");
}

/// The stand-in shares the plugin's types, so a wrong field number would go unseen between the two: these bytes were written by
/// hand from the API's definition.
#[test]
fn messages_are_on_the_wire_as_the_api_says() {
    let register = RegisterRequest {
        version: "v".into(),
        endpoint: "e".into(),
        resource_name: "r".into(),
        options: Some(DevicePluginOptions {}),
    };
    assert_eq!(register.encode_to_vec(), b"\x0a\x01v\x12\x01e\x1a\x01r\x22\x00");

    let node = api::TopologyInfo { nodes: vec![api::Node { id: 1 }] };
    let device = api::Device { id: "d".into(), health: "H".into(), topology: Some(node) };
    let list = api::ListAndWatchResponse { devices: vec![device] };
    assert_eq!(list.encode_to_vec(), b"\x0a\x0c\x0a\x01d\x12\x01H\x1a\x04\x0a\x02\x08\x01");

    assert_eq!(allocation(&[&["d"]]).encode_to_vec(), b"\x0a\x03\x0a\x01d");
    let mount = api::Mount { container_path: "c".into(), host_path: "h".into(), read_only: true };
    let container =
        api::ContainerAllocateResponse { envs: [("k".into(), "v".into())].into(), mounts: vec![mount] };
    let reply = AllocateResponse { container_responses: vec![container] };
    assert_eq!(
        reply.encode_to_vec(),
        b"\x0a\x12\x0a\x06\x0a\x01k\x12\x01v\x12\x08\x0a\x01c\x12\x01h\x18\x01"
    );
}
