//! RDMA devices: their nodes, and what they answer when opened.

use std::{path::Path, sync::Arc};

use peermem::{
    rdma::probe,
    verbs::{Context, Device, DeviceError, LinkLayer, ProtectionDomain},
};
use peermem_proto::RdmaName;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{file, in_words};
use crate::facts::{Answers, Node, Port, RdmaDevice, Seen, Unseen};

pub(super) fn devices(sysfs: &Path, dev: &Path) -> Vec<RdmaDevice> {
    let names = file::names(&sysfs.join("class/infiniband"));
    let names = names.iter().filter_map(|name| name.parse::<RdmaName>().ok());
    names.map(|name| RdmaDevice { node: node(sysfs, dev, &name), answers: ask(&name), name }).collect()
}

fn node(sysfs: &Path, dev: &Path, name: &RdmaName) -> Seen<Node> {
    let class = sysfs.join("class/infiniband_verbs");
    let is_its = |node: &String| {
        file::text(&class.join(node).join("ibdev"), 64).is_ok_and(|ibdev| ibdev == name.as_str())
    };
    let node = file::names(&class)
        .into_iter()
        .find(is_its)
        .ok_or_else(|| Unseen(format!("{name} has no device node: `modprobe ib_uverbs`")))?;
    let path = dev.join("infiniband").join(node);
    let may = accessat(CWD, &path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS);
    Ok(Node { exists: path.exists(), permitted: may.is_ok(), path: path.display().to_string() })
}

fn ask(name: &RdmaName) -> Seen<Answers> {
    let context = Device::by_name(name.as_str()).and_then(|device| device.open());
    context.and_then(|context| answers(&context)).map_err(|error| in_words(&error))
}

fn answers(context: &Arc<Context>) -> Result<Answers, DeviceError> {
    let attributes = context.attributes()?;
    let dmabuf = ProtectionDomain::new(context)?.check_dmabuf();
    let ports = (1..=attributes.ports).map(|port| {
        let port = context.port(port)?;
        Ok(Port {
            state: port.state,
            ethernet: port.link_layer == LinkLayer::Ethernet,
            active_mtu: port.active_mtu,
            max_mtu: port.max_mtu,
        })
    });
    let measured = probe::quirks(context, 1);
    Ok(Answers {
        dmabuf_refusal: dmabuf.err().map(|error| in_words(&error).0),
        on_demand_claimed: attributes.odp.rc_read_write(),
        on_demand_measured: measured.map(|quirks| quirks.on_demand.clone()).map_err(|error| in_words(&error)),
        ports: ports.collect::<Result<_, DeviceError>>()?,
    })
}
