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

use super::{Shared, shell::Shell};
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
    Message(Vec<u8>, Option<OwnedFd>),
    Stream,
}

/// Does what `message` asks.
pub(super) fn handle(shell: &Shared, session: SessionId, owner: Owner, message: Message) -> Outcome {
    let began = std::time::Instant::now();
    let mut shell = shell.borrow_mut();
    let call: CallMessage<'_> = match serde_json::from_slice(&message.bytes) {
        Ok(call) => call,
        Err(error) => {
            let error = not_a_call(&error.to_string());
            shell.answered("", began, Some(&error));
            return Outcome::Reply(error_reply(&error));
        }
    };
    let handled = dispatch(&mut shell, session, &call, message.fds);
    shell.answered(&call.method, began, handled.as_ref().err());
    match handled {
        Ok(Reply::Stream) => Outcome::Stream(shell.watch()),
        _ if call.oneway => Outcome::Silence,
        Ok(Reply::Message(bytes, fd)) => Outcome::Reply(Outgoing::new(bytes, Vec::from_iter(fd))),
        Err(error) => {
            tracing::info!(
                method = %call.method, code = %error.code(), uid = owner.uid, pid = owner.pid, "call refused: {error}"
            );
            Outcome::Reply(error_reply(&error))
        }
    }
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
    let expected = usize::from(call.method == call::Register::METHOD);
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
            })
        }
        call::GetStatus::METHOD => {
            parameters::<call::GetStatus>(call)?;
            reply(&shell.status())
        }
        call::ListRegions::METHOD => {
            let call::ListRegions { after } = parameters(call)?;
            reply(&shell.broker().list_regions(after.as_ref()))
        }
        call::ListLeases::METHOD => {
            let call::ListLeases { after } = parameters(call)?;
            reply(&shell.broker().list_leases(after))
        }
        call::Map::METHOD => {
            let (granted, carved) = shell.map(session, parameters(call)?)?;
            Ok(Reply::Message(encode(&granted), Some(carved.fd)))
        }
        call::Unmap::METHOD => {
            let call::Unmap { lease } = parameters(call)?;
            reply(&shell.unmap(session, lease)?)
        }
        call::Register::METHOD => {
            let request: call::Register = parameters(call)?;
            let fd = fds.pop().filter(|_| request.dmabuf_fd == 0).ok_or_else(|| CallError::Service {
                error: ServiceError::InvalidParameter { parameter: "dmabuf_fd".to_owned() },
                message: format!(
                    "dmabuf_fd is {}: expected 0, the index of the one descriptor",
                    request.dmabuf_fd
                ),
            })?;
            reply(&shell.register(session, &request, fd)?)
        }
        call::Unregister::METHOD => {
            let call::Unregister { region } = parameters(call)?;
            reply(&shell.unregister(session, region)?)
        }
        call::Watch::METHOD => {
            parameters::<call::Watch>(call)?;
            if call.more { Ok(Reply::Stream) } else { Err(ServiceError::ExpectedMore {}.into()) }
        }
        call::ReportDevice::METHOD => reply(&shell.report_device(session, parameters(call)?)?),
        call::ReportPair::METHOD => reply(&shell.report_pair(session, parameters(call)?)?),
        unknown => Err(no_such_method(unknown).into()),
    }
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
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let parameter = if path == "." { "(parameters)".to_owned() } else { path };
        let message = format!("parameter {parameter} of {}: {}", call.method, error.inner());
        CallError::Service { error: ServiceError::InvalidParameter { parameter }, message }
    })
}

fn reply<R: Serialize>(parameters: &R) -> Handled {
    Ok(Reply::Message(encode(parameters), None))
}

/// The bytes of a reply. The types hold nothing that JSON can't, so a failure is a mistake of this program; the client is
/// told rather than left waiting.
pub(super) fn encode<R: Serialize>(parameters: &R) -> Vec<u8> {
    encode_reply(parameters, false)
        .unwrap_or_else(|error| not_a_call(&error.to_string()).to_wire().to_string().into())
}
