//! What is measured, and the line of JSON that tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;
use crate::histogram::Histogram;
use crate::server::Server;
use crate::settings::{Limit, Settings};

/// The server gets so long to fall asleep before its CPU time is read.
const SETTLE: Duration = Duration::from_millis(5);

/// What a run counted.
#[derive(Default)]
pub struct Outcome {
    pub units: u64,
    pub latency: Histogram,
}

#[derive(Serialize)]
pub struct Report {
    scenario: &'static str,
    connections: usize,
    depth: u64,
    size: usize,
    units: u64,
    seconds: f64,
    cpu_ns_per_unit: f64,
    /// How much of it was in user space; roughly, as [`Cpu::user_share_since`](crate::server::Cpu::user_share_since) says.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_share: Option<f64>,
    units_per_second: f64,
    latency_us: Latency,
    /// Of a compressed message that the server sent, without the headers of its frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire_bytes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// Of each thread of the server that ran, the largest first.
    cpu_share_per_thread: Vec<f64>,
    server_rss_peak: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// What became of the subscribers that never read.
#[derive(Default, Serialize)]
pub struct Slow {
    pub connections: usize,
    /// How many got a Close frame, an end or a reset from the server.
    pub closed: usize,
    /// How many got a Close frame with each code.
    pub codes: BTreeMap<u16, usize>,
    /// The reason beside one of them.
    pub reason: String,
}

/// Runs once to warm up and once to measure. Each run ends when all it has sent is answered, so the window holds whole
/// units only, and the server has nothing to do when its CPU time is read.
pub fn measure(settings: &Settings, mut run: impl FnMut(Limit) -> Result<Outcome>) -> Result<Report> {
    if !settings.warmup.is_zero() {
        run(Limit::After(settings.warmup))?;
    }
    measure_once(settings, || run(settings.measured))
}

/// The same without the run to warm up.
pub fn measure_once(settings: &Settings, run: impl FnOnce() -> Result<Outcome>) -> Result<Report> {
    let server = Server::new(&settings.pids);
    std::thread::sleep(SETTLE);
    let (cpu, start) = (server.cpu()?, Instant::now());
    let Outcome { units, latency } = run()?;
    let seconds = start.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let after = server.cpu()?;
    let (threads, user_share) = (after.since(&cpu), after.user_share_since(&cpu));
    let cpu = threads.iter().sum::<u64>() as f64;
    let quantile = |share| latency.quantile(share) as f64 / 1000.0;
    Ok(Report {
        scenario: settings.scenario.name(),
        connections: settings.connections,
        depth: settings.depth,
        size: settings.size,
        units,
        seconds: rounded(seconds, 1e6),
        cpu_ns_per_unit: rounded(cpu / units.max(1) as f64, 1e2),
        user_share: user_share.map(|share| rounded(share, 1e4)),
        units_per_second: rounded(units as f64 / seconds, 1e1),
        latency_us: Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: latency.max() as f64 / 1000.0,
        },
        wire_bytes: None,
        bytes_per_connection: None,
        slow: None,
        cpu_share_per_thread: threads.iter().map(|nanoseconds| rounded(*nanoseconds as f64 / cpu, 1e4)).collect(),
        server_rss_peak: server.peak_bytes()?,
    })
}

/// A number without digits that mean nothing.
pub fn rounded(number: f64, steps: f64) -> f64 {
    (number * steps).round() / steps
}
