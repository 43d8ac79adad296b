//! One method a call: from parameters to the core's input, and from its answer to the reply.

use std::os::fd::OwnedFd;

use peermem_proto::{
    Fault, Initiator, LeaseId, Refusal, RegionName, Revocation, Token,
    call::{self, MOST_RESUMED},
    varlink::{CallError, ServiceError},
};

use super::shell::{Called, Outcome, Shell, handover};
use crate::{
    core::{Answer, Input, SessionId, TOKEN_LIFE},
    provider::{Carved, Dmabuf, Source, fault, registered_spec},
    random,
};

/// What a client whose memory can't be taken back must do.
const LET_GO: &str = "drop the lease's memory regions and mappings, and give it back (Unmap): until then it keeps the \
                      memory, and after the grace period it is shown as overdue";

type Result<T> = std::result::Result<T, CallError>;

impl Shell {
    pub(super) fn map(&mut self, session: SessionId, request: call::Map) -> Called {
        if let Some(refusal) = self.functions.why_not_served(&request.region) {
            return Called::Now(Err(refusal.clone().into()));
        }
        // Devices come and go; an unknown one is looked for before the core refuses it.
        for initiator in request.initiators.iter().take(call::MOST_INITIATORS) {
            self.broker.routes_mut().has_initiator(initiator);
        }
        self.call(|ticket| Input::Map(session, ticket, request))
    }

    /// The reply to a mapping that was granted, and its memory.
    pub(super) fn mapped(&mut self, outcome: Outcome) -> Result<(call::MapReply, Vec<OwnedFd>)> {
        let Answer::Granted(lease) = outcome? else { unreachable!("a map was answered with something else") };
        // It was put there before the core granted the lease; gone only if the lease has ended since.
        let carved = self.carved.remove(&lease.id).ok_or(Refusal::UnknownLease { lease: lease.id })?;
        self.metrics.mapped(&lease);
        Ok((handover(lease, &carved), carved.into_descriptors()))
    }

    pub(super) fn unmap(&mut self, session: SessionId, lease: LeaseId) -> Result<call::Empty> {
        self.call_now(|ticket| Input::Unmap(session, ticket, lease)).map(|_| call::Empty {})
    }

    pub(super) fn renew(&mut self, session: SessionId, request: call::Renew) -> Result<call::RenewReply> {
        match self.call_now(|ticket| Input::Renew(session, ticket, request))? {
            Answer::Renewed(lease) => Ok(call::RenewReply { lease }),
            other => unreachable!("a renewal was answered with {other:?}"),
        }
    }

    pub(super) fn delegate(
        &mut self,
        session: SessionId,
        lease: LeaseId,
        fd: OwnedFd,
    ) -> Result<call::DelegateReply> {
        let (region, offset) = self.broker.memory_of(lease).ok_or(Refusal::UnknownLease { lease })?;
        let carved = Carved::new(fd, offset);
        let memory = carved.memory(region)?;
        let token =
            random::bits().map(Token::from_random).map_err(|error| fault(region, "getrandom", error))?;
        self.call_now(|ticket| Input::Delegate(session, ticket, lease, memory, token))?;
        self.delegated.insert(token, carved);
        Ok(call::DelegateReply { token, expires_in_secs: TOKEN_LIFE.as_secs() })
    }

    pub(super) fn claim(
        &mut self,
        session: SessionId,
        token: Token,
    ) -> Result<(call::MapReply, Vec<OwnedFd>)> {
        let claimed = self.call_now(|ticket| Input::Claim(session, ticket, token));
        if let Err(CallError::Fault(Fault::NotRecorded { .. })) = &claimed {
            // The token is used up, and the lease that it had become has ended.
            self.delegated.remove(&token);
        }
        match claimed? {
            Answer::Granted(lease) => {
                let carved = self.delegated.remove(&token).ok_or(Refusal::UnknownToken {})?;
                Ok((handover(lease, &carved), carved.into_descriptors()))
            }
            other => unreachable!("a claim was answered with {other:?}"),
        }
    }

    pub(super) fn revoke(&mut self, session: SessionId, lease: LeaseId) -> Result<call::RevokeReply> {
        match self.call_now(|ticket| Input::Revoke(session, ticket, lease))? {
            Answer::Revoked(revocation) => {
                let client_must = match revocation {
                    Revocation::Enforced => "nothing: the memory has been taken back",
                    Revocation::Advisory => LET_GO,
                };
                Ok(call::RevokeReply { revocation, client_must: client_must.to_owned() })
            }
            other => unreachable!("a revocation was answered with {other:?}"),
        }
    }

    pub(super) fn resume(&mut self, session: SessionId, request: call::Resume) -> Result<call::ResumeReply> {
        for (parameter, count) in [("leases", request.leases.len()), ("regions", request.regions.len())] {
            if count > MOST_RESUMED {
                let message = format!("{count} {parameter} can't be resumed at once: {MOST_RESUMED} at most");
                let error = ServiceError::InvalidParameter { parameter: parameter.to_owned() };
                return Err(CallError::Service { error, message });
            }
        }
        match self.call_now(|ticket| Input::Resume(session, ticket, request))? {
            Answer::Resumed(reply) => Ok(reply),
            other => unreachable!("a resumption was answered with {other:?}"),
        }
    }

    pub(super) fn register(
        &mut self,
        session: SessionId,
        request: &call::Register,
        fd: OwnedFd,
    ) -> Result<call::RegisterReply> {
        // A name of the config's is not to be had: the function that it means may be plugged in at any time.
        if let Some(refusal) = self.functions.why_not_served(&request.name) {
            return Err(refusal.clone().into());
        }
        let dmabuf = Dmabuf::inspect(fd, &self.exporters)?;
        if !self.broker.routes_mut().has_function(request.device) {
            return Err(Refusal::UnknownDevice { device: request.device }.into());
        }
        let spec = registered_spec(request, &dmabuf);
        match self.call_now(|ticket| Input::Register(session, ticket, spec))? {
            Answer::Registered(region) => {
                tracing::info!(
                    region = %region.name, device = %request.device,
                    "region {} registered: {} of {}", region.name, region.size, request.device
                );
                self.memory.keep_region(&region, &dmabuf);
                self.sources.insert(region.name.clone(), Source::Registered(dmabuf));
                Ok(call::RegisterReply { region })
            }
            other => unreachable!("a registration was answered with {other:?}"),
        }
    }

    pub(super) fn unregister(&mut self, session: SessionId, region: RegionName) -> Result<call::Empty> {
        self.call_now(|ticket| Input::Unregister(session, ticket, region)).map(|_| call::Empty {})
    }

    pub(super) fn report_device(
        &mut self,
        session: SessionId,
        report: call::ReportDevice,
    ) -> Result<call::Empty> {
        let initiator = Initiator::Rdma(report.device.clone());
        if !self.broker.routes_mut().has_initiator(&initiator) {
            return Err(Refusal::UnknownInitiator { initiator }.into());
        }
        let call::ReportDevice { device, found } = report.clone();
        self.call_now(|ticket| Input::DeviceTested(session, ticket, report))?;
        tracing::info!(%device, dmabuf = found.dmabuf, "self-test of {device}: {}", found.on_demand);
        Ok(call::Empty {})
    }

    pub(super) fn report_pair(
        &mut self,
        session: SessionId,
        report: call::ReportPair,
    ) -> Result<call::Empty> {
        if !self.broker.routes_mut().has_initiator(&report.initiator) {
            return Err(Refusal::UnknownInitiator { initiator: report.initiator }.into());
        }
        if !self.broker.routes_mut().has_function(report.provider) {
            return Err(Refusal::UnknownDevice { device: report.provider }.into());
        }
        let call::ReportPair { provider, initiator, wrong } = report.clone();
        self.call_now(|ticket| Input::PairTested(session, ticket, report))?;
        match wrong {
            Some(wrong) => {
                tracing::warn!(%provider, %initiator, "bytes between {initiator} and {provider}: {wrong}");
            }
            None => {
                tracing::debug!(%provider, %initiator, "no loss is known between {initiator} and {provider}");
            }
        }
        Ok(call::Empty {})
    }
}
