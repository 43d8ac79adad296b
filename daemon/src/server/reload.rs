//! A config that is read again.

use std::collections::BTreeSet;

use super::Shell;
use crate::{audit::Audit, config::Settings, core::Input};

impl Shell {
    /// Goes by a new config from now on: its policy, its limits, whose dma-bufs may be registered, where grants and refusals are
    /// written. The rest counts from the next start on; where it differs from `running`, that is said.
    pub fn reconfigure(&mut self, running: &Settings, new: &Settings) {
        self.metrics.reloaded(true);
        self.config_refused = None;
        self.users.set_bounds(new.connections);
        self.exporters = new.exporters.clone();
        if running.audit_namespace != new.audit_namespace {
            self.audit = Audit::to(new.audit_namespace.as_ref());
        }
        self.run(Input::Configured(new.policy.clone(), new.limits));
        let differs = [
            ("server.socket", running.socket != new.socket),
            ("server.journal", running.journal != new.journal),
            ("metrics.listen", running.metrics != new.metrics),
            ("p2pmem", running.p2pmem != new.p2pmem),
            ("vfio", running.vfio != new.vfio),
            ("dax", running.dax != new.dax),
            ("emulated", running.emulated != new.emulated),
        ];
        let later: BTreeSet<_> =
            differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect();
        if later.is_empty() {
            tracing::info!("the new config counts");
        } else {
            let keys = later.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!("the new config counts, but for {keys}: restart the daemon for that");
        }
    }

    /// A config that can't be used changes nothing.
    pub fn refuse_config(&mut self, error: &anyhow::Error) {
        self.metrics.reloaded(false);
        tracing::error!("the config stays as it was: {error:#}");
        self.config_refused = Some(format!("{error:#}"));
    }
}
