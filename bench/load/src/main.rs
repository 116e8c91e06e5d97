//! A neutral load for WebSocket servers. It opens connections, checks every byte that comes back, and tells in one line
//! of JSON how fast the server was and what it cost the server: `wsx-load --help`.
//!
//! One thread, and nothing of the library that it measures. The scenarios are `echo` (and `latency`), `broadcast`,
//! `handshake` and `idle`; what they have in common is below them:
//! - `peer`: a connection and what it waits for, of `connection`, `inbox`, `payload` and `frame`;
//! - `report`: the measured window, of `server` and `histogram`.

mod broadcast;
mod connection;
mod echo;
mod frame;
mod handshake;
mod histogram;
mod http;
mod idle;
mod inbox;
mod payload;
mod peer;
mod report;
mod server;
mod settings;

use std::process::ExitCode;

use report::Report;
use settings::{Scenario, Settings};

/// Errors are sentences for whoever started the run.
pub type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let settings = match Settings::from_args() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            println!("{}", settings::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("wsx-load: {error}");
            return ExitCode::FAILURE;
        }
    };
    let json = run(&settings).and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    match json {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let (name, connections) = (settings.scenario.name(), settings.connections);
            eprintln!("wsx-load: {name} with {connections} connections: {error}.");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<Report> {
    // A few more for epoll, /proc and the publisher.
    connection::allow_descriptors(settings.connections as u64 + 64)?;
    match settings.scenario {
        Scenario::Echo | Scenario::Latency => echo::run(settings),
        Scenario::Broadcast => broadcast::run(settings),
        Scenario::Handshake => handshake::run(settings),
        Scenario::Idle => idle::run(settings),
    }
}
