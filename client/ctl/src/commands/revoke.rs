//! `peermemctl revoke`

use anyhow::{Context, Error, Result};
use peermem::{
    Client,
    proto::{LeaseId, call::RevokeReply},
};
use serde::Serialize;

use crate::{cli::Revoke, failure, output::Output};

/// One lease's, as JSON.
#[derive(Serialize)]
struct Revoked<'a> {
    lease: LeaseId,
    #[serde(flatten)]
    reply: &'a RevokeReply,
}

/// One that can't be revoked doesn't keep the others.
pub(crate) fn run(client: &Client, args: &Revoke, output: &Output) -> Result<()> {
    let mut failed: Option<Error> = None;
    for lease in &args.leases {
        if let Err(error) = revoke(client, *lease, output)
            && let Some(earlier) = failed.replace(error)
        {
            failure::say(&earlier, output.is_json());
        }
    }
    failed.map_or(Ok(()), Err)
}

fn revoke(client: &Client, lease: LeaseId, output: &Output) -> Result<()> {
    let reply = client.revoke(lease).with_context(|| format!("can't revoke lease {lease}"))?;
    if output.is_json() {
        output.json(&Revoked { lease, reply: &reply })
    } else {
        output.line(&format!("lease {lease} is revoked. What its client must do: {}", reply.client_must))
    }
}
