//! Takes up what an earlier daemon knew.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use peermem_proto::{Initiator, ProviderKind};

use super::{Shared, Shell, memory::stored_dmabuf, peer};
use crate::{
    core::{Client, Input, RegionSpec, Remembered},
    fd_store::FdName,
    functions::TakenOver,
    provider::{Dmabuf, Source},
    sys::Readable,
};

impl Shell {
    /// Takes up what is remembered: `offered` are the regions that providers have now, `stored` the descriptors that systemd
    /// kept.
    pub fn restore(
        &mut self,
        remembered: Remembered,
        offered: Vec<(RegionSpec, Source)>,
        mut stored: Vec<(FdName, OwnedFd)>,
    ) {
        let mut specs = Vec::new();
        for (spec, source) in offered {
            tracing::info!(region = %spec.name, "region {} found: {}, {}", spec.name, spec.size, spec.provider);
            self.sources.insert(spec.name.clone(), source);
            specs.push(spec);
        }
        let registered = |spec: &RegionSpec| spec.provider == ProviderKind::Registered;
        for region in remembered.regions.values().filter(|region| registered(&region.spec)) {
            let Some(fd) = stored_dmabuf(&mut stored, region.generation) else { continue };
            if self.sources.contains_key(&region.spec.name) {
                let name = &region.spec.name;
                tracing::warn!(region = %name, "region {name} of a client ends: the config has one of that name");
                self.memory.discard_region(region.generation);
                continue;
            }
            match Dmabuf::inspect(fd, &self.exporters) {
                Ok(dmabuf) => {
                    self.memory.is_kept(&region.spec.name, region.generation);
                    self.sources.insert(region.spec.name.clone(), Source::Registered(dmabuf));
                    specs.push(region.spec.clone());
                }
                Err(refusal) => {
                    tracing::warn!(region = %region.spec.name, "region {} ends: {refusal}", region.spec.name);
                    self.memory.discard_region(region.generation);
                }
            }
        }
        let snapshot = self.broker.routes().in_full();
        let TakenOver { opened, lost } = self.functions.take_over(&snapshot, &remembered, &mut stored);
        for offer in opened.offers {
            self.sources.insert(offer.spec.name.clone(), Source::Vfio(offer.bar));
            specs.push(offer.spec);
        }
        for (name, _) in &stored {
            self.memory.discard(name);
        }
        let (leases, regions) = (remembered.leases.len(), remembered.regions.len());
        // Many leases may be one process's, which is looked for once.
        let known = RefCell::new(HashMap::new());
        let lives = |client: &Client| {
            let process = (client.owner.pid, client.process);
            *known.borrow_mut().entry(process).or_insert_with(|| peer::find(client).is_some())
        };
        let effects = self.broker.restore(remembered.clone(), specs, lives);
        self.perform(effects);
        for device in lost {
            self.run(Input::InitiatorLost(Initiator::Vfio(device)));
        }
        self.release_what_ended(&remembered);
        self.see_to(opened.functions, opened.clearings);
        self.reconcile_pools();
        self.begin_with_dax();
        self.open_functions();
        self.memory.rewrite(self.broker.snapshot());
        if leases > 0 {
            let waiting = self.broker.waiting_count();
            tracing::info!(leases, regions, waiting, "{waiting} of {leases} leases wait for their clients");
        }
    }

    /// The processes that are waited for, each once.
    fn waited_for(&self) -> Vec<Client> {
        let mut seen = HashSet::new();
        let clients = self.broker.waiting().filter(|client| seen.insert((client.owner.pid, client.process)));
        clients.cloned().collect()
    }
}

/// Watches the processes whose leases wait for them, for as long as they may: the leases of one that dies end at once.
pub async fn watch_waiting(shell: Shared, grace: Duration) {
    let clients = shell.borrow().waited_for();
    let watches = clients.into_iter().map(|client| {
        let shell = Rc::clone(&shell);
        async move {
            let pidfd = peer::find(&client).and_then(|fd| Readable::new(fd).ok());
            let died = match pidfd {
                Some(pidfd) => pidfd.wait().await.is_ok(),
                None => true,
            };
            if died {
                shell.borrow_mut().run(Input::Died(client));
            }
        }
    });
    let mut all = tokio::task::JoinSet::new();
    for watch in watches {
        all.spawn_local(watch);
    }
    tokio::time::sleep(grace).await;
}
