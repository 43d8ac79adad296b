//! Every Prometheus name of the daemon. RDMA port counters are node_exporter's job (its `infiniband` collector).
//!
//! Labels have few values by their nature, or are bounded: the hundred users who lease most, and `other` for the rest.

use std::time::Duration;

use peermem_proto::{Event, Lease, Route, call::METHODS, varlink::CallError};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

use crate::audit::Written;

mod observe;

pub use observe::Observed;

/// How many users are shown by themselves: those who lease most.
const MOST_USERS: usize = 100;

/// From 4 µs, a request's floor, to 1 s, in steps of 4.
const LATENCY_BUCKETS: [f64; 10] = [4e-6, 16e-6, 64e-6, 256e-6, 1e-3, 4e-3, 16e-3, 64e-3, 256e-3, 1.0];

/// The one histogram.
const REQUEST_DURATION: &str = "peermem_request_duration_seconds";

/// Makes metrics and registers them.
struct Registrar(Registry);

impl Registrar {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> prometheus::Result<C> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// Prometheus has only floating-point samples; bytes are exact up to 8 PiB.
    fn bytes(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }
}

macro_rules! metrics {
    (@labels) => { &[] };
    (@labels $labels:expr) => { $labels };
    ($($(#[$cfg:meta])* $field:ident: $type:ty = $make:ident($name:literal, $help:literal $(, $labels:expr)?);)*) => {
        /// The metrics, registered.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            requests: HistogramVec,
            $($field: $type,)*
        }

        /// Every metric with its labels, but those of the process collector.
        pub const NAMES: &[(&str, &[&str])] =
            &[(REQUEST_DURATION, &["method"]), $(($name, metrics!(@labels $($labels)?)),)*];

        impl Metrics {
            /// Registers every metric.
            ///
            /// # Errors
            /// When two metrics share a name: a mistake of this file, which a test would find.
            pub fn new() -> prometheus::Result<Self> {
                let registrar = Registrar(Registry::new());
                let process = prometheus::process_collector::ProcessCollector::for_self();
                registrar.0.register(Box::new(process))?;
                let requests = HistogramOpts::new(
                    REQUEST_DURATION,
                    "Time from a whole request to its reply, without the socket.",
                );
                let requests = HistogramVec::new(requests.buckets(LATENCY_BUCKETS.to_vec()), &["method"]);
                let metrics = Self {
                    requests: registrar.add(requests)?,
                    $($field: registrar.$make($name, $help $(, $labels)?)?,)*
                    registry: registrar.0,
                };
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                Ok(metrics)
            }
        }
    };
}

metrics! {
    build_info: IntGaugeVec = gauges("peermem_build_info", "Always 1; the version is in the label.", &["version"]);

    regions: IntGaugeVec = gauges("peermem_regions", "Regions now known.", &["provider"]);
    region_size: GaugeVec = bytes("peermem_region_size_bytes", "Size of a region.", &["region", "provider"]);
    region_free: GaugeVec = bytes(
        "peermem_region_free_bytes", "Bytes of a region that can be leased; all of a window.", &["region", "provider"]);
    region_leased: GaugeVec = bytes(
        "peermem_region_leased_bytes", "Bytes of a region that are leased; overlaps count twice.",
        &["region", "provider"]);
    region_missing: GaugeVec = bytes(
        "peermem_region_missing_bytes",
        "Bytes of a region whose leases have ended and that clients still hold, or that others than clients hold.",
        &["region", "provider"]);

    region_largest: GaugeVec = bytes(
        "peermem_region_largest_free_bytes",
        "The largest free piece of a vfio region; less than what is free of it where others' leases are in between.",
        &["region", "provider"]);
    initiator_mappings: IntGaugeVec = gauges(
        "peermem_initiator_mappings", "What is mapped for an initiator that the daemon owns.", &["initiator"]);

    leases: IntGaugeVec = gauges(
        "peermem_leases",
        "Leases now held, by state: active; waiting for its client after a restart; revoked; overdue (revoked, and the client \
         has had time enough).",
        &["provider", "method", "state"]);
    lease_ends: IntCounterVec = counters("peermem_lease_ends_total", "Leases that have ended.", &["reason"]);
    mappings: IntCounterVec = counters(
        "peermem_mappings_total", "Mappings granted, counted once for each initiator.", &["method", "route"]);
    refusals: IntCounterVec = counters(
        "peermem_refusals_total", "Calls answered with an error, by its code.", &["code"]);

    user_leases: IntGaugeVec = gauges(
        "peermem_user_leases", "Leases of a user, of the 100 who lease most; other: of all others.", &["uid"]);
    user_leased: GaugeVec = bytes(
        "peermem_user_leased_bytes", "Leased bytes of a user, of the 100 who lease most; other: of all others.",
        &["uid"]);
    rule_leases: IntGaugeVec = gauges(
        "peermem_rule_leases", "Leases that a rule of the policy allowed, of all users.", &["rule"]);
    rule_leased: GaugeVec = bytes(
        "peermem_rule_leased_bytes", "Leased bytes that a rule of the policy allowed, of all users.", &["rule"]);

    connections: IntGauge = gauge("peermem_connections", "Clients now connected.");
    connections_made: IntCounter = counter("peermem_connections_total", "Connections admitted since the start.");
    watchers: IntGauge = gauge("peermem_watchers", "Clients that now watch.");
    watchers_dropped: IntCounter = counter(
        "peermem_watchers_dropped_total", "Watchers that were dropped because they read too slowly.");
    requests_delayed: IntCounter = counter(
        "peermem_requests_delayed_total", "Requests that had to wait because their user makes too many.");
    events: IntCounterVec = counters("peermem_events_total", "What has happened to regions and leases.", &["kind"]);

    audit_records: IntCounterVec = counters(
        "peermem_audit_records_total",
        "Grants and refusals that were written down, by where: the log; a journal namespace; diverted to the log, since the \
         namespace couldn't be written.",
        &["to"]);

    descriptors: IntGaugeVec = gauges(
        "peermem_descriptors",
        "Descriptors of device memory that the daemon keeps: dmabuf, of registered regions; delegated, behind tokens.",
        &["kind"]);
    dmabuf_bytes: GaugeVec = bytes(
        "peermem_dmabuf_bytes", "Size of the registered dma-bufs that the daemon keeps, and by that their memory.", &[]);

    journal_records: IntCounter = counter("peermem_journal_records_total", "Records written to the journal.");
    journal_failures: IntCounter = counter(
        "peermem_journal_failures_total", "Records that couldn't be written to the journal; grants are refused then.");
    journal_rewrites: IntCounter = counter("peermem_journal_rewrites_total", "Times that the journal was written afresh.");
    reloads: IntCounterVec = counters(
        "peermem_config_reloads_total", "Configs that were read again, by whether they count now.", &["outcome"]);

    selftest_devices: IntGaugeVec = gauges(
        "peermem_selftest_device",
        "Always 1: what the self-test found an RDMA device to do with on-demand regions, and whether it takes dma-bufs.",
        &["device", "on_demand", "dmabuf"]);
    selftest_lost: IntGaugeVec = gauges(
        "peermem_selftest_lost", "Always 1: a pair of devices that the self-test found to lose bytes.",
        &["provider", "initiator"]);
    routes: IntGaugeVec = gauges(
        "peermem_routes", "Pairs of a region and an RDMA device, by the way between them; none where there is none.",
        &["route"]);
}

/// The methods that every varlink service has.
const SERVICE_METHODS: [&str; 2] =
    ["org.varlink.service.GetInfo", "org.varlink.service.GetInterfaceDescription"];

impl Metrics {
    /// A client was admitted.
    pub fn connected(&self) {
        self.connections_made.inc();
    }

    /// A mapping was granted.
    pub fn mapped(&self, lease: &Lease) {
        for path in &lease.paths {
            self.mappings.with_label_values(&[observe::method(lease), route_label(&path.route)]).inc();
        }
    }

    /// A call was answered. Methods that don't exist share one label, since their names are the client's to choose.
    pub fn answered(&self, method: &str, took: Duration, error: Option<&CallError>) {
        let is_known = METHODS.contains(&method) || SERVICE_METHODS.contains(&method);
        let label = if is_known { method.rsplit('.').next().unwrap_or(method) } else { "unknown" };
        self.requests.with_label_values(&[label]).observe(took.as_secs_f64());
        if let Some(error) = error {
            let code = error.code();
            self.refusals.with_label_values(&[code.rsplit('.').next().unwrap_or(&code)]).inc();
        }
    }

    /// Something has happened.
    pub fn happened(&self, event: &Event) {
        self.events.with_label_values(&[event.kind()]).inc();
        if let Event::LeaseEnded { reason, .. } = event {
            self.lease_ends.with_label_values(&[reason.name()]).inc();
        }
    }

    /// Records were written to the journal, or couldn't be.
    pub fn recorded(&self, records: usize, written: bool) {
        let counter = if written { &self.journal_records } else { &self.journal_failures };
        counter.inc_by(records as u64);
    }

    /// The journal was written afresh.
    pub fn rewritten(&self) {
        self.journal_rewrites.inc();
    }

    /// A grant or a refusal was written down.
    pub fn written_down(&self, written: Written) {
        self.audit_records.with_label_values(&[written.name()]).inc();
    }

    /// A watcher was too slow.
    pub fn watcher_dropped(&self) {
        self.watchers_dropped.inc();
    }

    /// A request has to wait.
    pub fn delayed(&self) {
        self.requests_delayed.inc();
    }

    /// The config was read again.
    pub fn reloaded(&self, counts: bool) {
        self.reloads.with_label_values(&[if counts { "accepted" } else { "refused" }]).inc();
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

fn route_label(route: &Route) -> &'static str {
    match route {
        Route::BusAddress { .. } => "bus_address",
        Route::HostBridge { .. } => "host_bridge",
        Route::Iommu {} => "iommu",
        Route::Software {} => "software",
    }
}
