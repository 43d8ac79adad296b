//! The interface definition describes what is really sent: every type is turned into JSON and held against it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use peermem_proto::{
    ByteLen, ByteRange, DeviceFinding, Direction, Event, Extent, Fault, Generation, Initiator, Lease,
    LeaseEnd, LeaseId, Method, OnDemandFinding, Owner, Path, ProviderKind, Refusal, Region, Revocation,
    Route, Shape, Sharing,
    call::{self, Call},
    interface,
    status::Status,
    varlink::{CallError, ServiceError},
};
use serde_json::{Value, json};
use zlink_idl::{CustomType, Interface, Type};

fn broker() -> Interface<'static> {
    interface::BROKER_DEFINITION.try_into().expect("the definition of the broker parses")
}

/// Holds `value` against `ty`; the message says where it differs.
fn check(idl: &Interface<'_>, path: &str, ty: &Type<'_>, value: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{path}: {value} isn't {ty}"));
    match ty {
        Type::Bool if !value.is_boolean() => wrong(),
        Type::Int if !value.is_i64() => wrong(),
        Type::String if !value.is_string() => wrong(),
        Type::Bool | Type::Int | Type::String => Ok(()),
        Type::Optional(_) if value.is_null() => Ok(()),
        Type::Optional(inner) => check(idl, path, inner, value),
        Type::Array(inner) => match value.as_array() {
            Some(items) => {
                items.iter().enumerate().try_for_each(|(i, v)| check(idl, &format!("{path}[{i}]"), inner, v))
            }
            None => wrong(),
        },
        Type::Enum(variants) => match value.as_str() {
            Some(text) if variants.iter().any(|v| v.name() == text) => Ok(()),
            _ => wrong(),
        },
        Type::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| (f.name().to_string(), f.ty())).collect();
            check_fields(idl, path, &fields, value)
        }
        Type::Custom(name) => match idl.custom_types().find(|t| t.name() == name) {
            Some(CustomType::Enum(custom)) => match value.as_str() {
                Some(text) if custom.variants().any(|v| v.name() == text) => Ok(()),
                _ => wrong(),
            },
            Some(CustomType::Object(custom)) => {
                let fields: Vec<_> = custom.fields().map(|f| (f.name().to_string(), f.ty())).collect();
                check_fields(idl, path, &fields, value)
            }
            None => Err(format!("{path}: type {name} isn't defined")),
        },
        other => Err(format!("{path}: this test doesn't know {other}")),
    }
}

fn check_fields(
    idl: &Interface<'_>,
    path: &str,
    fields: &[(String, &Type<'_>)],
    value: &Value,
) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| format!("{path}: {value} isn't an object"))?;
    let declared: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    for key in object.keys() {
        if !declared.contains(key.as_str()) {
            return Err(format!("{path}: field {key} isn't declared"));
        }
    }
    fields.iter().try_for_each(|(name, ty)| {
        check(idl, &format!("{path}.{name}"), ty, object.get(name).unwrap_or(&Value::Null))
    })
}

fn check_call<C: Call>(parameters: &C, replies: &[C::Reply]) {
    let idl = broker();
    let name = C::METHOD.rsplit('.').next().unwrap();
    let method = idl.methods().find(|m| m.name() == name).unwrap_or_else(|| panic!("{name} isn't declared"));
    let inputs: Vec<_> = method.inputs().map(|f| (f.name().to_string(), f.ty())).collect();
    let outputs: Vec<_> = method.outputs().map(|f| (f.name().to_string(), f.ty())).collect();
    check_fields(&idl, name, &inputs, &json!(parameters)).unwrap();
    for reply in replies {
        check_fields(&idl, name, &outputs, &json!(reply)).unwrap();
    }
}

fn check_error(error: impl Into<CallError>) -> String {
    let idl = broker();
    let wire = error.into().to_wire();
    let code = wire["error"].as_str().unwrap();
    let name =
        code.strip_prefix("io.peermem.Broker.").unwrap_or_else(|| panic!("{code} is outside the interface"));
    let declared = idl.errors().find(|e| e.name() == name).unwrap_or_else(|| panic!("{name} isn't declared"));
    let fields: Vec<_> = declared.fields().map(|f| (f.name().to_string(), f.ty())).collect();
    check_fields(&idl, name, &fields, &wire["parameters"]).unwrap();
    name.to_owned()
}

fn region() -> Region {
    Region {
        name: "nvme-0000:01:00.0".parse().unwrap(),
        generation: Generation::FIRST,
        provider: ProviderKind::P2pmem,
        device: Some("0000:01:00.0".parse().unwrap()),
        shape: Shape::Pool,
        size: ByteLen::new(1 << 26),
        free: ByteLen::new(1 << 20),
        leases: 1,
        alignment: ByteLen::new(4096),
        method: Method::OnDemand,
        revocation: Revocation::Advisory,
        emulated: false,
        owner_uid: Some(1000),
    }
}

fn lease(route: Route) -> Lease {
    Lease {
        id: LeaseId::new(1),
        region: region().name,
        generation: Generation::FIRST,
        offset: ByteLen::ZERO,
        length: ByteLen::new(4096),
        paths: vec![Path { initiator: "rdma:rxe0".parse().unwrap(), route, found: Some(found()) }],
        direction: Direction::Bidirectional,
        method: Method::Dmabuf,
        revocation: Revocation::Enforced,
        emulated: true,
        owner: Owner { uid: 1000, gid: 1000, pid: 1 },
    }
}

fn found() -> DeviceFinding {
    DeviceFinding { on_demand: OnDemandFinding::PageAlignedOnly { min_path_mtu: 4096 }, dmabuf: true }
}

#[test]
fn every_call_and_reply_is_as_declared() {
    let device = "0000:01:00.0".parse().unwrap();
    let name = region().name;
    let leases = [
        lease(Route::BusAddress { acs_checked: true }),
        lease(Route::HostBridge { bridge: "0000:00".to_owned(), redirected_by: vec![device] }),
        lease(Route::Software {}),
    ];
    let events = [
        Event::RegionAdded { region: region() },
        Event::RegionGone { name: name.clone() },
        Event::LeaseGranted { lease: leases[0].clone() },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::OwnerGone },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::DaemonStopping },
    ];
    let range = ByteRange::new(ByteLen::ZERO, ByteLen::new(4096)).unwrap();
    let map = |extent| call::Map::new(region().name, extent, [Initiator::Emulated], Direction::Read);
    let granted = call::MapReply { lease: leases[0].clone(), memory_fd: 0, memory_offset: ByteLen::ZERO };

    check_call(&call::Hello { protocol: 1 }, &[call::HelloReply { protocol: 1, version: "0".to_owned() }]);
    check_call(
        &call::GetStatus {},
        &[Status {
            version: "0".to_owned(),
            protocol: 1,
            pid: 1,
            uptime_secs: 1,
            connections: 1,
            regions: 1,
            leases: 1,
            leased_bytes: 1,
            emulation: true,
            draining: false,
        }],
    );
    check_call(
        &call::ListRegions { after: Some(name.clone()) },
        &[call::RegionPage { regions: vec![region()], more: true }],
    );
    check_call(
        &call::ListLeases { after: Some(LeaseId::FIRST) },
        &[call::LeasePage { leases: leases.to_vec(), more: false }],
    );
    check_call(&map(Extent::Range(range)), std::slice::from_ref(&granted));
    check_call(&map(Extent::Whole), std::slice::from_ref(&granted));
    check_call(&call::Unmap { lease: LeaseId::FIRST }, &[call::Empty {}]);
    check_call(
        &call::Register { name: name.clone(), device, dmabuf_fd: 0, sharing: Sharing::Everyone },
        &[call::RegisterReply { region: region() }],
    );
    check_call(&call::Unregister { region: name }, &[call::Empty {}]);
    let stream: Vec<_> = events.into_iter().map(|event| call::WatchReply { event: Some(event) }).collect();
    check_call(&call::Watch {}, &stream);
    check_call(&call::Watch {}, &[call::WatchReply { event: None }]);
    for on_demand in [
        OnDemandFinding::Unsupported {},
        OnDemandFinding::Sound {},
        OnDemandFinding::Broken { finding: "a write".to_owned() },
    ] {
        let found = DeviceFinding { on_demand, ..found() };
        check_call(&call::ReportDevice { device: "rxe0".parse().unwrap(), found }, &[call::Empty {}]);
    }
    for wrong in [None, Some("no byte arrived".to_owned())] {
        let initiator = Initiator::Pci(device);
        check_call(&call::ReportPair { provider: device, initiator, wrong }, &[call::Empty {}]);
    }
}

#[test]
fn every_error_is_as_declared_and_every_declared_error_exists() {
    let region = region().name;
    let len = ByteLen::new(4096);
    let initiator = Initiator::Emulated;
    let text = || "why".to_owned();
    let refusals = [
        Refusal::UnsupportedVersion { requested: 2, supported: 1 },
        Refusal::UnknownRegion { region: region.clone() },
        Refusal::UnknownLease { lease: LeaseId::FIRST },
        Refusal::UnknownInitiator { initiator: initiator.clone() },
        Refusal::UnknownDevice { device: "0000:01:00.0".parse().unwrap() },
        Refusal::NotYours { what: text() },
        Refusal::ZeroLength { region: region.clone(), alignment: len },
        Refusal::NotAligned { region: region.clone(), field: text(), value: len, alignment: len },
        Refusal::InitiatorCount { got: 0, most: 8 },
        Refusal::BadExtent { why: text() },
        Refusal::NotEnoughSpace { region: region.clone(), requested: len, free: len },
        Refusal::OutOfRange { region: region.clone(), end: 1, size: len },
        Refusal::NoRoute { region: region.clone(), initiator: initiator.clone(), why: text() },
        Refusal::BytesLost { region: region.clone(), initiator: initiator.clone(), found: text() },
        Refusal::NoMethod { region: region.clone(), initiator, method: Method::OnDemand, why: text() },
        Refusal::RootOnly { what: text() },
        Refusal::RegionExists { region: region.clone() },
        Refusal::NotDmabuf { found: text() },
        Refusal::NotDeviceMemory { found: text() },
        Refusal::WrongDescriptorCount { got: 2, expected: 1 },
        Refusal::LimitReached { what: text(), key: text(), limit: 1 },
        Refusal::Draining {},
        Refusal::WatcherTooSlow { lost: 1 },
    ];
    let mut sent: BTreeSet<String> = refusals.into_iter().map(check_error).collect();
    sent.insert(check_error(Fault::ProviderFailed { region, operation: text(), reason: text() }));
    let declared: BTreeSet<String> = broker().errors().map(|e| e.name().to_string()).collect();
    assert_eq!(sent, declared);
}

#[test]
fn every_declared_method_exists() {
    let declared: BTreeSet<String> =
        broker().methods().map(|m| format!("{}.{}", interface::BROKER, m.name())).collect();
    assert_eq!(call::METHODS.iter().map(|m| (*m).to_owned()).collect::<BTreeSet<_>>(), declared);
}

#[test]
fn the_service_interface_parses_and_declares_the_standard_errors() {
    let idl: Interface<'_> = interface::SERVICE_DEFINITION.try_into().unwrap();
    for error in [
        ServiceError::InterfaceNotFound { interface: String::new() },
        ServiceError::MethodNotFound { method: String::new() },
        ServiceError::InvalidParameter { parameter: String::new() },
        ServiceError::ExpectedMore {},
    ] {
        let wire = CallError::from(error).to_wire();
        let code = wire["error"].as_str().unwrap();
        let name = code.strip_prefix("org.varlink.service.").unwrap();
        let declared =
            idl.errors().find(|e| e.name() == name).unwrap_or_else(|| panic!("{name} isn't declared"));
        let fields: Vec<_> = declared.fields().map(|f| (f.name().to_string(), f.ty())).collect();
        check_fields(&idl, name, &fields, &wire["parameters"]).unwrap();
    }
}
