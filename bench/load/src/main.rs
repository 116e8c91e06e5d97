//! A neutral load for WebSocket servers. It opens connections, checks every byte that comes back, and tells in one line
//! of JSON how fast the server was and what it cost the server: `wsx-load --help`.
//!
//! One thread, and nothing of the library that it measures. The scenarios are `echo` (and `latency`), `broadcast`,
//! `handshake` and `idle`; what they have in common is below them:
//! - `peer`: a connection and what it waits for, of `connection`, `inbox` and `frame`;
//! - `payload`: what is sent and checked, of `json` and `deflate`;
//! - `stream`: what a connection goes over, of `tls`;
//! - `report`: the measured window, of `server` and `histogram`.

mod broadcast;
mod certificate;
mod connection;
mod deflate;
mod echo;
mod frame;
mod handshake;
mod histogram;
mod http;
mod idle;
mod inbox;
mod json;
mod payload;
mod peer;
mod report;
mod server;
mod settings;
mod stream;
mod tls;

use std::process::ExitCode;

use report::Report;
use settings::{Command, Scenario, Settings};

/// Errors are sentences for whoever started the run.
pub type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let settings = match Command::from_args() {
        Ok(Command::Run(settings)) => settings,
        Ok(Command::Certificate(folder)) => {
            return match certificate::write(&folder) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            };
        }
        Ok(Command::Help) => {
            println!("{}", settings::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    let json = run(&settings).and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    match json {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            fail(&format!("{} with {} connections: {error}.", settings.scenario.name(), settings.connections))
        }
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("wsx-load: {error}");
    ExitCode::FAILURE
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
