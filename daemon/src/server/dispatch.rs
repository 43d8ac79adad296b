//! From a message to its reply.

use std::{os::fd::OwnedFd, rc::Rc};

use peermem_proto::{
    Event, Owner, PROTOCOL_VERSION, Refusal,
    call::{self, Call},
    interface,
    varlink::{CallError, CallMessage, ServiceError, encode_reply},
};
use peermem_wire::{Descriptors, Message, Outgoing};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::{
    Shared,
    refused::refused,
    shell::{Called, Shell},
};
use crate::core::SessionId;

/// What a message comes to.
pub(super) enum Outcome {
    /// Send this.
    Reply(Outgoing),
    /// Send nothing: the caller wants no reply.
    Silence,
    /// Send an empty reply, then one for every event.
    Stream(broadcast::Receiver<Rc<Event>>),
}

type Handled = Result<Reply, CallError>;

enum Reply {
    Message(Vec<u8>, Vec<OwnedFd>),
    /// A mapping, once its memory is there.
    Mapping(Called),
    Stream(broadcast::Receiver<Rc<Event>>),
}

/// Does what `message` asks.
pub(super) async fn handle(shell: &Shared, session: SessionId, owner: Owner, message: Message) -> Outcome {
    let began = std::time::Instant::now();
    let call: CallMessage<'_> = match serde_json::from_slice(&message.bytes) {
        Ok(call) => call,
        Err(error) => {
            let error = not_a_call(&error.to_string());
            shell.borrow().answered("", began, Some(&error));
            return Outcome::Reply(error_reply(&error));
        }
    };
    let handled = dispatch(&mut shell.borrow_mut(), session, &call, message.fds);
    let handled = match handled {
        Ok(Reply::Mapping(called)) => {
            let outcome = called.outcome().await;
            shell.borrow_mut().mapped(outcome).map(with_memory)
        }
        handled => handled,
    };
    shell.borrow().answered(&call.method, began, handled.as_ref().err());
    if let Err(error) = &handled {
        refused(shell, owner, &call, error);
    }
    match handled {
        Ok(Reply::Stream(events)) => Outcome::Stream(events),
        _ if call.oneway => Outcome::Silence,
        Ok(Reply::Message(bytes, fds)) => Outcome::Reply(Outgoing::new(bytes, fds)),
        Ok(Reply::Mapping(_)) => unreachable!("a mapping has become a message"),
        Err(error) => Outcome::Reply(error_reply(&error)),
    }
}

fn with_memory((reply, fds): (call::MapReply, Vec<OwnedFd>)) -> Reply {
    Reply::Message(encode(&reply), fds)
}

/// The bytes of an error.
pub(super) fn error_reply(error: &CallError) -> Outgoing {
    Outgoing::new(error.to_wire().to_string().into_bytes(), Vec::new())
}

/// The answer to bytes that aren't a varlink call.
pub(super) fn not_a_call(why: &str) -> CallError {
    CallError::Service {
        error: ServiceError::InvalidParameter { parameter: "(message)".to_owned() },
        message: format!(
            "a varlink call was expected, such as {{\"method\":\"org.varlink.service.GetInfo\"}}: {why}"
        ),
    }
}

fn dispatch(shell: &mut Shell, session: SessionId, call: &CallMessage<'_>, fds: Descriptors) -> Handled {
    let expected = usize::from([call::Register::METHOD, call::Delegate::METHOD].contains(&&*call.method));
    let mut fds = fds.take(expected).map_err(|got| Refusal::WrongDescriptorCount {
        got: u32::try_from(got).unwrap_or(u32::MAX),
        expected: u32::try_from(expected).unwrap_or(u32::MAX),
    })?;
    match &*call.method {
        "org.varlink.service.GetInfo" => {
            parameters::<call::Empty>(call)?;
            reply(&service_info())
        }
        "org.varlink.service.GetInterfaceDescription" => {
            let asked: interface::GetInterfaceDescription = parameters(call)?;
            let description = interface::definition(&asked.interface)
                .ok_or(ServiceError::InterfaceNotFound { interface: asked.interface })?;
            reply(&interface::InterfaceDescription { description: description.to_owned() })
        }
        call::Hello::METHOD => {
            let call::Hello { protocol: requested } = parameters(call)?;
            if requested != PROTOCOL_VERSION {
                return Err(Refusal::UnsupportedVersion { requested, supported: PROTOCOL_VERSION }.into());
            }
            reply(&call::HelloReply {
                protocol: PROTOCOL_VERSION,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                instance: shell.broker.instance().to_owned(),
            })
        }
        call::GetStatus::METHOD => {
            parameters::<call::GetStatus>(call)?;
            reply(&shell.status())
        }
        call::ListRegions::METHOD => {
            let call::ListRegions { after } = parameters(call)?;
            reply(&shell.broker.list_regions(after.as_ref()))
        }
        call::ListLeases::METHOD => {
            let call::ListLeases { after } = parameters(call)?;
            reply(&shell.broker.list_leases(after))
        }
        call::Map::METHOD => {
            let request = parameters(call)?;
            Ok(Reply::Mapping(shell.map(session, request)))
        }
        call::Unmap::METHOD => {
            let call::Unmap { lease } = parameters(call)?;
            reply(&shell.unmap(session, lease)?)
        }
        call::Renew::METHOD => reply(&shell.renew(session, parameters(call)?)?),
        call::Delegate::METHOD => {
            let call::Delegate { lease, memory_fd } = parameters(call)?;
            let fd = only_one(fds.pop(), "memory_fd", memory_fd)?;
            reply(&shell.delegate(session, lease, fd)?)
        }
        call::Claim::METHOD => {
            let call::Claim { token } = parameters(call)?;
            shell.claim(session, token).map(with_memory)
        }
        call::Revoke::METHOD => {
            let call::Revoke { lease } = parameters(call)?;
            reply(&shell.revoke(session, lease)?)
        }
        call::Resume::METHOD => reply(&shell.resume(session, parameters(call)?)?),
        call::Register::METHOD => {
            let request: call::Register = parameters(call)?;
            let fd = only_one(fds.pop(), "dmabuf_fd", request.dmabuf_fd)?;
            reply(&shell.register(session, &request, fd)?)
        }
        call::Unregister::METHOD => {
            let call::Unregister { region } = parameters(call)?;
            reply(&shell.unregister(session, region)?)
        }
        call::Watch::METHOD => {
            parameters::<call::Watch>(call)?;
            if !call.more {
                return Err(ServiceError::ExpectedMore {}.into());
            }
            Ok(Reply::Stream(shell.watch(session)?))
        }
        call::Explain::METHOD => {
            let question: call::Explain = parameters(call)?;
            reply(&shell.broker.explain(&question))
        }
        call::ReportDevice::METHOD => reply(&shell.report_device(session, parameters(call)?)?),
        call::ReportPair::METHOD => reply(&shell.report_pair(session, parameters(call)?)?),
        unknown => Err(no_such_method(unknown).into()),
    }
}

/// The descriptor that came along, which the parameter must mean.
fn only_one(fd: Option<OwnedFd>, parameter: &str, index: u32) -> Result<OwnedFd, CallError> {
    fd.filter(|_| index == 0).ok_or_else(|| CallError::Service {
        error: ServiceError::InvalidParameter { parameter: parameter.to_owned() },
        message: format!("{parameter} is {index}: expected 0, the index of the one descriptor"),
    })
}

fn service_info() -> interface::ServiceInfo {
    interface::ServiceInfo {
        vendor: "peermem".to_owned(),
        product: "peermemd".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: "man:peermemd(8)".to_owned(),
        interfaces: vec![interface::SERVICE.to_owned(), interface::BROKER.to_owned()],
    }
}

fn no_such_method(method: &str) -> ServiceError {
    match method.rsplit_once('.') {
        Some((interface, _)) if interface::definition(interface).is_some() => {
            ServiceError::MethodNotFound { method: method.to_owned() }
        }
        Some((interface, _)) => ServiceError::InterfaceNotFound { interface: interface.to_owned() },
        None => ServiceError::MethodNotFound { method: method.to_owned() },
    }
}

/// Reads the parameters; a wrong one is named by its path.
fn parameters<P: DeserializeOwned>(call: &CallMessage<'_>) -> Result<P, CallError> {
    let text = call.parameters.map_or("{}", RawValue::get);
    if let Ok(parameters) = serde_json::from_str(text) {
        return Ok(parameters);
    }
    // Once more, for the path of what is wrong.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let parameter = if path == "." { "(parameters)".to_owned() } else { path };
        let message = format!("parameter {parameter} of {}: {}", call.method, error.inner());
        CallError::Service { error: ServiceError::InvalidParameter { parameter }, message }
    })
}

fn reply<R: Serialize>(parameters: &R) -> Handled {
    Ok(Reply::Message(encode(parameters), Vec::new()))
}

/// The bytes of a reply. The types hold nothing that JSON can't, so a failure is a mistake of this program; the client is
/// told rather than left waiting.
pub(super) fn encode<R: Serialize>(parameters: &R) -> Vec<u8> {
    encode_reply(parameters, false)
        .unwrap_or_else(|error| not_a_call(&error.to_string()).to_wire().to_string().into())
}
