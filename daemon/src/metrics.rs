//! Every Prometheus name of the daemon. RDMA port counters are node_exporter's job (its `infiniband` collector).

use std::time::Duration;

use peermem_proto::{
    Lease, Route,
    call::METHODS,
    varlink::{CallError, ServiceError},
};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::core::{Broker, Routes};

/// The metrics, registered.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    regions: IntGaugeVec,
    region_size: GaugeVec,
    region_leased: GaugeVec,
    leases: IntGaugeVec,
    mappings: IntCounterVec,
    refusals: IntCounterVec,
    requests: HistogramVec,
    connections: IntGauge,
    connections_made: IntCounter,
}

/// From 4 µs, a request's floor, to 1 s, in steps of 4.
const LATENCY_BUCKETS: [f64; 10] = [4e-6, 16e-6, 64e-6, 256e-6, 1e-3, 4e-3, 16e-3, 64e-3, 256e-3, 1.0];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics share a name: a mistake of this file, which a test would find.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauges =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            regions: gauges("peermem_regions", "Regions now known.", &["provider"])?,
            region_size: GaugeVec::new(
                Opts::new("peermem_region_size_bytes", "Size of a region."),
                &["region", "provider"],
            )?,
            region_leased: GaugeVec::new(
                Opts::new(
                    "peermem_region_leased_bytes",
                    "Bytes of a region that are leased; overlaps count twice.",
                ),
                &["region", "provider"],
            )?,
            leases: gauges("peermem_leases", "Leases now held.", &["method"])?,
            mappings: IntCounterVec::new(
                Opts::new("peermem_mappings_total", "Mappings granted, counted once for each initiator."),
                &["method", "route"],
            )?,
            refusals: IntCounterVec::new(
                Opts::new("peermem_refusals_total", "Calls answered with an error, by its code."),
                &["code"],
            )?,
            requests: HistogramVec::new(
                HistogramOpts::new(
                    "peermem_request_duration_seconds",
                    "Time from a whole request to its reply, without the socket.",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["method"],
            )?,
            connections: IntGauge::new("peermem_connections", "Clients now connected.")?,
            connections_made: IntCounter::new(
                "peermem_connections_total",
                "Connections admitted since the start.",
            )?,
            registry,
        };
        let build = gauges("peermem_build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let all: [Box<dyn prometheus::core::Collector>; 11] = [
            Box::new(build),
            Box::new(metrics.regions.clone()),
            Box::new(metrics.region_size.clone()),
            Box::new(metrics.region_leased.clone()),
            Box::new(metrics.leases.clone()),
            Box::new(metrics.mappings.clone()),
            Box::new(metrics.refusals.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.connections_made.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// A client was admitted.
    pub fn connected(&self) {
        self.connections_made.inc();
    }

    /// A mapping was granted.
    pub fn mapped(&self, lease: &Lease) {
        for path in &lease.paths {
            let route = match path.route {
                Route::BusAddress { .. } => "bus_address",
                Route::HostBridge { .. } => "host_bridge",
                Route::Software {} => "software",
            };
            self.mappings.with_label_values(&[method_label(lease), route]).inc();
        }
    }

    /// A call was answered. Methods that don't exist share one label, since their names are the client's to choose.
    pub fn answered(&self, method: &str, took: Duration, error: Option<&CallError>) {
        let known = METHODS.contains(&method) || method.starts_with("org.varlink.service.Get");
        let unknown = matches!(
            error,
            Some(CallError::Service {
                error: ServiceError::MethodNotFound { .. } | ServiceError::InterfaceNotFound { .. },
                ..
            })
        );
        let label = if known && !unknown { method.rsplit('.').next().unwrap_or(method) } else { "unknown" };
        self.requests.with_label_values(&[label]).observe(took.as_secs_f64());
        if let Some(error) = error {
            let code = error.code();
            self.refusals.with_label_values(&[code.rsplit('.').next().unwrap_or(&code)]).inc();
        }
    }

    /// Sets the gauges from the broker's state.
    pub fn observe<R: Routes>(&self, broker: &Broker<R>) {
        for gauge in [&self.regions, &self.leases] {
            gauge.reset();
        }
        self.region_size.reset();
        self.region_leased.reset();
        for region in broker.regions() {
            let provider = region.provider.to_string();
            self.regions.with_label_values(&[&provider]).inc();
            let labels = [region.name.as_str(), &provider];
            self.region_size.with_label_values(&labels).set(as_float(region.size.get()));
            self.region_leased.with_label_values(&labels).set(0.0);
        }
        for lease in broker.leases() {
            self.leases.with_label_values(&[method_label(lease)]).inc();
            if let Some(provider) = broker.provider_of(&lease.region) {
                let labels = [lease.region.as_str(), &provider.to_string()];
                self.region_leased.with_label_values(&labels).add(as_float(lease.length.get()));
            }
        }
        self.connections.set(i64::try_from(broker.session_count()).unwrap_or(i64::MAX));
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "can't render the metrics");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn method_label(lease: &Lease) -> &'static str {
    match lease.method {
        peermem_proto::Method::Dmabuf => "dmabuf",
        peermem_proto::Method::OnDemand => "on_demand",
        peermem_proto::Method::Pinned => "pinned",
    }
}

/// Prometheus has only floating-point samples; bytes are exact up to 8 PiB.
#[allow(clippy::cast_precision_loss)]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}
