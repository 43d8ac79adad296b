//! The interface definition describes what is really sent: every type is turned into JSON and held against it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use peermem_proto::{
    Action, ByteLen, ByteRange, Considered, DeviceFinding, Direction, DmaAddr, Event, Explanation, Extent,
    Fault, Generation, Initiator, Lease, LeaseEnd, LeaseId, LeaseState, Method, Moment, OnDemandFinding,
    Owner, Path, ProviderKind, Refusal, Region, Revocation, Revoked, Route, Shape, Sharing, Token,
    address::Iova,
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
        missing: ByteLen::ZERO,
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
        paths: vec![Path {
            initiator: "rdma:rxe0".parse().unwrap(),
            route,
            dma: Some(dma()),
            found: Some(found()),
        }],
        direction: Direction::Bidirectional,
        method: Method::Dmabuf,
        revocation: Revocation::Enforced,
        emulated: true,
        owner: owner(),
        expires_at: Some(Moment::from_millis(1)),
        state: LeaseState::Active {},
        waiting: true,
    }
}

fn dma() -> DmaAddr {
    DmaAddr { initiator: "vfio:0000:01:00.0".parse().unwrap(), iova: Iova::new(0x1000) }
}

fn owner() -> Owner {
    Owner { uid: 1000, gid: 1000, pid: 1 }
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
        lease(Route::Iommu {}),
        lease(Route::Software {}),
    ];
    let at = Moment::from_millis(1);
    let state = LeaseState::Revoked { reason: Revoked::RegionOwner, at, overdue: true };
    let revoked = Lease { state, expires_at: None, waiting: false, ..lease(Route::Software {}) };
    let events = [
        Event::RegionAdded { region: region() },
        Event::RegionGone { name: name.clone() },
        Event::LeaseGranted { lease: leases[0].clone() },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::OwnerGone },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::NotResumed },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::NeighbourRevoked },
        Event::LeaseEnded { lease: leases[0].clone(), reason: LeaseEnd::InitiatorGone },
        Event::LeaseRenewed { lease: leases[0].clone() },
        Event::LeaseDelegated { lease: leases[0].clone(), from: owner() },
        Event::LeaseRevoked { lease: revoked.clone() },
        Event::LeaseOverdue { lease: revoked.clone() },
        Event::LeaseResumed { lease: leases[0].clone() },
        Event::Refused { owner: owner(), name: Some(name.clone()), code: "a".into(), message: "b".into() },
        Event::RefusalsLeftOut { uid: 1000, count: 1 },
    ];
    let range = ByteRange::new(ByteLen::ZERO, ByteLen::new(4096)).unwrap();
    let map = |extent| call::Map::new(region().name, extent, [Initiator::Emulated], Direction::Read);
    let granted = call::MapReply {
        lease: leases[0].clone(),
        memory_fd: 0,
        memory_offset: ByteLen::ZERO,
        device_fd: Some(1),
    };

    let (version, instance) = ("0".to_owned(), "ab".to_owned());
    check_call(&call::Hello { protocol: 1 }, &[call::HelloReply { protocol: 1, version, instance }]);
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
            waiting: 1,
            overdue: 1,
            leased_bytes: 1,
            emulation: true,
            draining: false,
            config_refused: Some("why".to_owned()),
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
    check_call(&map(Extent::Whole).for_secs(1), std::slice::from_ref(&granted));
    check_call(&map(Extent::Whole).at(dma()).driving(device), std::slice::from_ref(&granted));
    let lease = LeaseId::FIRST;
    check_call(&call::Renew { lease, lease_secs: Some(1) }, &[call::RenewReply { lease: revoked }]);
    let token = Token::from_random(1);
    check_call(
        &call::Delegate { lease, memory_fd: 0 },
        &[call::DelegateReply { token, expires_in_secs: 60 }],
    );
    check_call(&call::Claim { token }, std::slice::from_ref(&granted));
    check_call(
        &call::Revoke { lease },
        &[call::RevokeReply { revocation: Revocation::Enforced, client_must: "nothing".to_owned() }],
    );
    check_call(
        &call::Resume { instance: "ab".to_owned(), leases: vec![lease], regions: vec![name.clone()] },
        &[call::ResumeReply { lost_leases: vec![lease], lost_regions: vec![name.clone()] }],
    );
    for action in Action::ALL {
        assert_eq!(action.to_string().parse(), Ok(action));
        check_call(
            &call::Explain {
                uid: 1,
                gids: vec![1],
                action,
                region: Some(name.clone()),
                initiator: Some(Initiator::Emulated),
            },
            &[Explanation {
                allowed: true,
                verdict: "why".to_owned(),
                decided_by: Some("r".to_owned()),
                rules: vec![Considered { rule: "r".to_owned(), mismatches: vec!["who".to_owned()] }],
            }],
        );
    }
    check_call(&call::Unmap { lease: LeaseId::FIRST }, &[call::Empty {}]);
    check_call(
        &call::Register { name: name.clone(), device, dmabuf_fd: 0, sharing: Sharing::Everyone },
        &[call::RegisterReply { region: region() }],
    );
    check_call(&call::Unregister { region: name }, &[call::Empty {}]);
    for event in &events {
        assert_eq!(json!(event)["kind"], event.kind());
        if let Event::LeaseEnded { reason, .. } = event {
            assert_eq!(json!(reason), reason.name());
        }
    }
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
    let (initiator, iova) = (Initiator::Emulated, Iova::new(0x1000));
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
        Refusal::Fragmented { region: region.clone(), requested: len, largest: len },
        Refusal::NotServed { region: region.clone(), why: text() },
        Refusal::RegisterBar { region: region.clone(), why: text() },
        Refusal::InitiatorNotServed { initiator: initiator.clone(), why: text() },
        Refusal::NoIommu { initiator: initiator.clone(), why: text() },
        Refusal::SharedGroup {
            initiator: initiator.clone(),
            others: vec!["0000:01:00.1".parse().unwrap()],
            why: text(),
        },
        Refusal::InitiatorTaken { initiator: initiator.clone() },
        Refusal::AddressTaken { initiator: initiator.clone(), iova, length: len, taken: iova },
        Refusal::AddressReserved { initiator: initiator.clone(), iova, length: len },
        Refusal::AddressesUsedUp { initiator: initiator.clone(), length: len, largest: len },
        Refusal::MappingsUsedUp { initiator: initiator.clone() },
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
        Refusal::NotAllowed {
            action: Action::Map,
            region: Some(region.clone()),
            rule: Some(text()),
            why: text(),
        },
        Refusal::OverQuota { rule: text(), what: text(), uid: 1, held: 1, asked: 1, limit: 1 },
        Refusal::LeaseTooLong { rule: text(), asked_secs: 2, longest_secs: 1 },
        Refusal::LeaseRevoked { lease: LeaseId::FIRST, reason: Revoked::Expired },
        Refusal::UnknownToken {},
        Refusal::NotTheMemory { lease: LeaseId::FIRST },
        Refusal::Draining {},
        Refusal::WatcherTooSlow { lost: 1 },
    ];
    let mut sent: BTreeSet<String> = refusals.into_iter().map(check_error).collect();
    sent.insert(check_error(Fault::ProviderFailed { region, operation: text(), reason: text() }));
    let device = "0000:01:00.0".parse().unwrap();
    sent.insert(check_error(Fault::DeviceFailed { device, operation: text(), reason: text() }));
    sent.insert(check_error(Fault::NotRecorded { reason: text() }));
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
