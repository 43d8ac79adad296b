//! What was measured, for people and for programs.

use std::{fs, path::PathBuf, time::SystemTime};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use peermem::{
    Client,
    proto::{ByteLen, Method, RegionName},
    verbs::Mtu,
};
use peermem_doctor::recommendation::{self, Better, Recommendation, Way};
use rustix::system::uname;
use serde::Serialize;

use super::{flow::Flow, svg};
use crate::{
    cli::{Bench, BenchOperation},
    commands::verify::talk::Introduction,
    failure::Mismatch,
    output::{Output, memory, paths},
    time,
};

/// The two ends, as they introduced themselves.
pub(super) struct Pair {
    pub(super) operation: BenchOperation,
    pub(super) ours: Introduction,
    pub(super) theirs: Introduction,
    pub(super) path_mtu: Mtu,
}

impl Pair {
    /// The end that the bytes come from, and the one that they go to.
    fn source_and_target(&self) -> (&Introduction, &Introduction) {
        match self.operation {
            BenchOperation::Write | BenchOperation::Send => (&self.ours, &self.theirs),
            BenchOperation::Read => (&self.theirs, &self.ours),
        }
    }
}

/// One size, measured one way.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) way: Way,
    pub(super) bytes: ByteLen,
    /// How many messages were under way at a time while bandwidth was measured: what was asked for, or what there was room for.
    pub(super) depth: u32,
    /// Messages of the bandwidth's measurement.
    messages: u64,
    pub(super) bytes_per_second: f64,
    latency_ns: Percentiles,
    /// CPU seconds of this process a second, while bandwidth was measured.
    cpu: f64,
    pub(super) verified: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
    p999: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile));
        Self { p50, p99, p999 }
    }
}

impl Row {
    pub(super) fn new(way: Way, bytes: ByteLen, one: &Flow, many: &Flow, verified: bool) -> Self {
        let secs = many.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            way,
            bytes,
            depth: many.depth,
            messages: many.messages,
            bytes_per_second: many.messages as f64 * bytes.get() as f64 / secs,
            latency_ns: (&one.latency).into(),
            cpu: many.cpu.as_secs_f64() / secs,
            verified,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    operation: &'static str,
    from: End<'a>,
    to: End<'a>,
    path_mtu: u32,
    measurements: &'a [Row],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recommended: Vec<Better>,
    /// Where the recommendation is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct End<'a> {
    region: &'a RegionName,
    method: Method,
    emulated: bool,
}

impl<'a> From<&'a Introduction> for End<'a> {
    fn from(end: &'a Introduction) -> Self {
        Self { region: &end.region, method: end.method, emulated: end.emulated }
    }
}

/// Prints them, and draws them where that is wanted.
///
/// # Errors
/// [`Mismatch`] when a byte was wrong.
pub(super) fn report(
    client: &Client,
    output: &Output,
    args: &Bench,
    pair: &Pair,
    rows: &[Row],
) -> Result<()> {
    let (from, to) = pair.source_and_target();
    let wrong = rows.iter().filter(|row| !row.verified).count();
    let recommended = advise(rows);
    let saved = match args.save && wrong == 0 {
        true => Some(save(client, pair, &recommended)?),
        false => None,
    };
    if output.is_json() {
        output.json(&Report {
            operation: pair.operation.name(),
            from: from.into(),
            to: to.into(),
            path_mtu: pair.path_mtu.bytes(),
            measurements: rows,
            recommended,
            saved,
        })?;
    } else {
        let mtu = format!("path MTU {}", pair.path_mtu);
        output.fields(&[("from", describe(from)), ("to", describe(to)), (pair.operation.name(), mtu)])?;
        output.table(HEADER, rows.iter().map(columns))?;
        for Better { bytes, way, ratio } in &recommended {
            output.line(&format!("{bytes}: {way} is faster here, {ratio:.2} times"))?;
        }
        if let Some(path) = &saved {
            output.line(&format!("kept in {}: `peermemctl doctor` quotes it", path.display()))?;
        }
    }
    if let Some(path) = &args.svg {
        let title = format!("{} from {} to {}", pair.operation.name(), from.region, to.region);
        fs::write(path, svg::draw(&title, rows))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(Mismatch { wrong, all: rows.len() }.into()),
    }
}

const HEADER: [&str; 9] = ["size", "way", "depth", "MB/s", "p50 us", "p99 us", "p99.9 us", "CPU", "verified"];

fn columns(row: &Row) -> [String; 9] {
    let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1e3);
    let Percentiles { p50, p99, p999 } = row.latency_ns;
    [
        row.bytes.to_string(),
        row.way.to_string(),
        row.depth.to_string(),
        format!("{:.1}", row.bytes_per_second / 1e6),
        micros(p50),
        micros(p99),
        micros(p999),
        format!("{:.0} %", row.cpu * 100.0),
        if row.verified { "every byte" } else { "NO" }.to_owned(),
    ]
}

fn describe(end: &Introduction) -> String {
    format!("{} ({}, {}, {})", end.region, memory(end.emulated), end.method, paths(&end.paths))
}

/// Keeps what is recommended for the pair.
fn save(client: &Client, pair: &Pair, recommended: &[Better]) -> Result<PathBuf> {
    let (from, to) = pair.source_and_target();
    let regions = client.regions()?;
    let device = |name: &RegionName| regions.iter().find(|region| region.name == *name)?.device;
    let path = from.paths.first().context("a lease without a path")?;
    let recommendation = Recommendation {
        operation: pair.operation.name().to_owned(),
        from: from.region.clone(),
        to: to.region.clone(),
        providers: [&from.region, &to.region].into_iter().filter_map(device).collect(),
        initiator: path.initiator.clone(),
        kernel: uname().release().to_string_lossy().into_owned(),
        date: time::date_utc(SystemTime::now()),
        sizes: recommended.to_vec(),
    };
    let folder = recommendation::folders().pop().context("there is no folder to keep it in")?;
    recommendation
        .save(&folder)
        .with_context(|| format!("can't keep the recommendation in {}", folder.display()))
}

/// The better way for each size that was measured both ways. Wrong bytes are no way at all.
fn advise(rows: &[Row]) -> Vec<Better> {
    let of = |way| rows.iter().filter(move |row| row.way == way && row.verified);
    let pairs = of(Way::Direct).filter_map(|direct| {
        let bounced = of(Way::Bounced).find(|row| row.bytes == direct.bytes)?;
        Some((direct, bounced))
    });
    pairs
        .map(|(direct, bounced)| {
            let ratio = direct.bytes_per_second / bounced.bytes_per_second;
            let (way, ratio) =
                if ratio >= 1.0 { (Way::Direct, ratio) } else { (Way::Bounced, ratio.recip()) };
            Better { bytes: direct.bytes, way, ratio }
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(way: Way, bytes: u64, bytes_per_second: f64, verified: bool) -> Row {
        let latency_ns = Percentiles { p50: 1500, p99: 2000, p999: 3000 };
        let bytes = ByteLen::new(bytes);
        Row { way, bytes, depth: 4, messages: 10, bytes_per_second, latency_ns, cpu: 0.5, verified }
    }

    #[test]
    fn the_recommendation_follows_the_measurement() {
        let rows = [
            row(Way::Direct, 4096, 10.0, true),
            row(Way::Bounced, 4096, 20.0, true),
            row(Way::Direct, 8192, 30.0, true),
            row(Way::Bounced, 8192, 20.0, true),
            row(Way::Direct, 16384, 90.0, false),
            row(Way::Bounced, 16384, 20.0, true),
        ];
        let advice = advise(&rows);
        let found: Vec<_> = advice.iter().map(|advice| (advice.bytes.get(), advice.way)).collect();
        assert_eq!(found, [(4096, Way::Bounced), (8192, Way::Direct)]);
        assert!((advice[0].ratio - 2.0).abs() < 1e-9 && (advice[1].ratio - 1.5).abs() < 1e-9);
    }

    #[test]
    fn wrong_bytes_are_shouted() {
        assert_eq!(columns(&row(Way::Direct, 4096, 2e6, false))[8], "NO");
        assert_eq!(columns(&row(Way::Direct, 4096, 2e6, true))[2..5], ["4", "2.0", "1.5"]);
    }
}
