//! The envelope: varlink calls, replies and errors as JSON objects (the varlink specification, "Messages").
//!
//! A message is one JSON object; the zero byte that ends it on the socket isn't part of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use thiserror::Error;

use crate::{call::Call, fault::Fault, refusal::Refusal};

/// A call as it stands on the wire; the parameters stay text until the method is known.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallMessage<'a> {
    /// The full method name.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// The parameters: a JSON object, or absent for none.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<&'a RawValue>,
    /// No reply is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
    /// Many replies are wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

#[derive(Serialize)]
struct OutgoingCall<'a, P> {
    method: &'a str,
    parameters: &'a P,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct OutgoingReply<'a, R> {
    parameters: &'a R,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

#[derive(Deserialize)]
struct IncomingReply<'a> {
    #[serde(default)]
    error: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    continues: bool,
}

/// The errors that every varlink service has (`org.varlink.service`).
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum ServiceError {
    /// The part of the method's name before its last dot isn't an interface of this service.
    #[error("interface {interface} isn't served here: `varlinkctl list-interfaces` shows those that are")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// The interface.
        interface: String,
    },
    /// The interface has no such method.
    #[error("method {method} doesn't exist: `varlinkctl introspect` shows those that do")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// The method's full name.
        method: String,
    },
    /// A parameter is missing, unknown, or of a wrong type or form.
    #[error("parameter {parameter} is wrong")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// Its path, such as `initiator`.
        parameter: String,
    },
    /// The method streams replies, and the call didn't say `more`.
    #[error("this method streams its replies: call it with `more`")]
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
}

/// Everything that a call can come back with instead of its reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// A decision of the daemon.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// A failure below the daemon.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The call itself was wrong.
    #[error("{message}")]
    Service {
        /// Which standard error.
        error: ServiceError,
        /// What was wrong with the call.
        message: String,
    },
    /// A code that this version doesn't know, from a newer daemon.
    #[error("{code}: {message}")]
    Unknown {
        /// The error's full name.
        code: String,
        /// The daemon's sentence.
        message: String,
    },
}

impl From<ServiceError> for CallError {
    fn from(error: ServiceError) -> Self {
        Self::Service { message: error.to_string(), error }
    }
}

impl CallError {
    /// The stable code: the varlink error's full name.
    pub fn code(&self) -> String {
        match self.to_wire().get("error") {
            Some(Value::String(code)) => code.clone(),
            _ => String::new(),
        }
    }

    /// The reply object: `error`, and `parameters` with the fields and a `message` for people.
    pub fn to_wire(&self) -> Value {
        // A struct of strings and numbers always becomes JSON; `Null` would show in the round-trip test below.
        let (mut wire, message) = match self {
            Self::Refusal(refusal) => {
                (serde_json::to_value(refusal).unwrap_or_default(), refusal.to_string())
            }
            Self::Fault(fault) => (serde_json::to_value(fault).unwrap_or_default(), fault.to_string()),
            Self::Service { error, message } => {
                (serde_json::to_value(error).unwrap_or_default(), message.clone())
            }
            Self::Unknown { code, message } => {
                (serde_json::json!({ "error": code, "parameters": {} }), message.clone())
            }
        };
        if let Some(parameters) = wire.get_mut("parameters").and_then(Value::as_object_mut) {
            parameters.insert("message".to_owned(), Value::String(message));
        }
        wire
    }

    fn from_wire(code: String, parameters: Option<&RawValue>) -> Self {
        let parameters: Value = parameters
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_else(|| serde_json::json!({}));
        let message =
            parameters.get("message").and_then(Value::as_str).unwrap_or("no reason was given").to_owned();
        let whole = serde_json::json!({ "error": code, "parameters": parameters });
        if let Ok(refusal) = Refusal::deserialize(&whole) {
            Self::Refusal(refusal)
        } else if let Ok(fault) = Fault::deserialize(&whole) {
            Self::Fault(fault)
        } else if let Ok(error) = ServiceError::deserialize(&whole) {
            Self::Service { error, message }
        } else {
            Self::Unknown { code, message }
        }
    }
}

/// One reply of a call.
#[derive(Debug)]
pub struct Reply<R> {
    /// Its parameters.
    pub parameters: R,
    /// Whether more replies follow.
    pub continues: bool,
}

/// Why a reply can't be read.
#[derive(Debug, Error)]
pub enum ReplyError {
    /// The call was answered with an error.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The bytes aren't the reply that the method promises.
    #[error("the daemon's reply can't be read")]
    Malformed(#[from] serde_json::Error),
}

/// The bytes of a call.
///
/// # Errors
/// None in practice: parameters are structs of strings, numbers and lists of them.
pub fn encode_call<C: Call>(parameters: &C, more: bool) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&OutgoingCall { method: C::METHOD, parameters, more })
}

/// The bytes of a reply.
///
/// # Errors
/// None in practice, as for [`encode_call`].
pub fn encode_reply<R: Serialize>(parameters: &R, continues: bool) -> serde_json::Result<Vec<u8>> {
    // As long as most replies are, so that they aren't copied while they grow.
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, &OutgoingReply { parameters, continues })?;
    Ok(bytes)
}

/// Reads a reply to a call of type `C`.
///
/// # Errors
/// [`ReplyError::Call`] when the daemon answered with an error, [`ReplyError::Malformed`] when the bytes don't fit.
pub fn decode_reply<R: DeserializeOwned>(bytes: &[u8]) -> Result<Reply<R>, ReplyError> {
    let incoming: IncomingReply<'_> = serde_json::from_slice(bytes)?;
    if let Some(code) = incoming.error {
        return Err(CallError::from_wire(code, incoming.parameters).into());
    }
    let parameters = serde_json::from_str(incoming.parameters.map_or("{}", RawValue::get))?;
    Ok(Reply { parameters, continues: incoming.continues })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeaseId, call};

    fn through_the_wire(error: CallError) -> CallError {
        let bytes = serde_json::to_vec(&error.to_wire()).unwrap();
        match decode_reply::<call::Empty>(&bytes) {
            Err(ReplyError::Call(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_keep_their_type_and_bring_a_sentence() {
        let refusal = Refusal::UnknownLease { lease: LeaseId::new(7) };
        let wire = CallError::from(refusal.clone()).to_wire();
        assert_eq!(wire["error"], "io.peermem.Broker.UnknownLease");
        assert_eq!(wire["parameters"]["lease"], 7);
        assert_eq!(wire["parameters"]["message"], refusal.to_string());
        assert_eq!(through_the_wire(refusal.clone().into()), refusal.into());

        let fault = Fault::ProviderFailed {
            region: "a".parse().unwrap(),
            operation: "open".to_owned(),
            reason: "gone".to_owned(),
        };
        assert_eq!(through_the_wire(fault.clone().into()), fault.into());
        let draining = CallError::from(Refusal::Draining {});
        assert_eq!(through_the_wire(draining.clone()), draining);
        let standard = CallError::from(ServiceError::ExpectedMore {});
        assert_eq!(through_the_wire(standard.clone()), standard);
    }

    #[test]
    fn a_code_of_tomorrow_is_shown_as_it_came() {
        let bytes =
            br#"{"error":"io.peermem.Broker.FromTomorrow","parameters":{"message":"not before Monday"}}"#;
        match decode_reply::<call::Empty>(bytes) {
            Err(ReplyError::Call(CallError::Unknown { code, message })) => {
                assert_eq!(code, "io.peermem.Broker.FromTomorrow");
                assert_eq!(message, "not before Monday");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_is_one_json_object() {
        let bytes = encode_call(&call::Unmap { lease: LeaseId::new(3) }, false).unwrap();
        assert_eq!(bytes, br#"{"method":"io.peermem.Broker.Unmap","parameters":{"lease":3}}"#);
        let message: CallMessage<'_> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(message.method, "io.peermem.Broker.Unmap");
        assert!(!message.more && !message.oneway);
    }

    #[test]
    fn an_empty_reply_needs_no_parameters() {
        assert!(decode_reply::<call::Empty>(b"{}").is_ok());
    }
}
