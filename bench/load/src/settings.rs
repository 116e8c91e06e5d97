//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use rustls::ClientConfig;

use crate::payload::{Content, STORED};
use crate::{Result, tls};

pub const USAGE: &str = "\
usage: wsx-load SCENARIO --port PORT --pid PID [--pid PID]... [--host 127.0.0.1] [--raw] [options]
                [--tls CA.PEM] [--compression [--context-takeover]]
       wsx-load certificate FOLDER

  echo       [--connections 100] [--depth 1] [--size 64] [--text | --json] [--seconds 1] [--warmup 0.3]
  broadcast  [--connections 1000] [--depth 1] [--size 64] [--text | --json] [--seconds 1] [--warmup 0.3] [--slow PERCENT]
  handshake  [--concurrent 50] [--seconds 1] [--warmup 0.3]
  idle       [--connections 10000] [--size 64] [--text | --json]
  latency    [--messages 10000] [--size 64] [--text | --json] [--warmup 0.3]

--pid names the processes of the server, whose CPU time and memory are read. --tls is TLS 1.3 with a server whose
certificate, for localhost, comes from the authority in the file. --compression is permessage-deflate at level 6, and
every message for itself, unless idle gets --context-takeover as well. --json is text that can be compressed. --raw is
for a server without a protocol that echoes bytes. One line of JSON tells the result.

certificate writes ca.pem, and cert.pem and key.pem for a server, into a folder.";

/// What is asked for.
pub enum Command {
    Run(Box<Settings>),
    /// Certificates for a run, into a folder.
    Certificate(PathBuf),
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Echo,
    Broadcast,
    Handshake,
    Idle,
    Latency,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Latency => "latency",
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Echo, Self::Broadcast, Self::Handshake, Self::Idle, Self::Latency]
            .into_iter()
            .find(|scenario| scenario.name() == name)
            .ok_or_else(|| format!("there is no scenario '{name}'"))
    }
}

#[derive(Debug)]
pub struct Settings {
    pub scenario: Scenario,
    pub server: SocketAddr,
    pub pids: Vec<u32>,
    /// For connections over TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The server has no protocol: what comes back is what was sent, and there is no opening handshake.
    pub raw: bool,
    pub compression: Option<Compression>,
    pub content: Content,
    /// How many are open at once; in `broadcast` the subscribers.
    pub connections: usize,
    /// Messages that are sent with one write, and awaited before the next.
    pub depth: u64,
    pub size: usize,
    pub measured: Limit,
    pub warmup: Duration,
    /// How many of a hundred subscribers never read.
    pub slow: usize,
}

/// What is offered for permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    EachMessageAlone,
    ContextTakeover,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    After(Duration),
    Units(u64),
}

impl Limit {
    #[inline]
    pub fn is_reached(self, elapsed: Duration, units: u64) -> bool {
        match self {
            Self::After(duration) => elapsed >= duration,
            Self::Units(most) => units >= most,
        }
    }
}

impl Command {
    pub fn from_args() -> Result<Self> {
        read(Parser::from_env()).map_err(|error| format!("{error}\n{USAGE}"))
    }
}

#[cfg(test)]
impl Settings {
    /// Of a command line.
    pub fn of(words: &str) -> Self {
        match read(Parser::from_args(words.split(' '))) {
            Ok(Command::Run(settings)) => *settings,
            Ok(_) => panic!("{words} runs nothing"),
            Err(error) => panic!("{words}: {error}"),
        }
    }
}

fn read(mut args: Parser) -> std::result::Result<Command, lexopt::Error> {
    let (mut scenario, mut port, mut pids) = (None, None, Vec::new());
    let (mut host, mut tls, mut raw) = (IpAddr::V4(Ipv4Addr::LOCALHOST), None, false);
    let (mut content, mut compression, mut takeover) = (Content::Noise, false, false);
    let (mut connections, mut depth, mut size) = (None, 1, 64);
    let (mut seconds, mut warmup, mut messages, mut slow) = (1.0, 0.3, 10_000, 0);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Value(name) if scenario.is_none() && name == "certificate" => {
                return Ok(Command::Certificate(args.value()?.into()));
            }
            Arg::Value(name) if scenario.is_none() => scenario = Some(name.parse::<Scenario>()?),
            Arg::Long("port") => port = Some(args.value()?.parse()?),
            Arg::Long("pid") => pids.push(args.value()?.parse()?),
            Arg::Long("host") => host = args.value()?.parse()?,
            Arg::Long("tls") => tls = Some(PathBuf::from(args.value()?)),
            Arg::Long("raw") => raw = true,
            Arg::Long("text") => content = Content::Text,
            Arg::Long("json") => content = Content::Json,
            Arg::Long("compression") => compression = true,
            Arg::Long("context-takeover") => takeover = true,
            Arg::Long("connections" | "concurrent") => connections = Some(args.value()?.parse()?),
            Arg::Long("depth") => depth = args.value()?.parse()?,
            Arg::Long("size") => size = args.value()?.parse()?,
            Arg::Long("seconds") => seconds = args.value()?.parse()?,
            Arg::Long("warmup") => warmup = args.value()?.parse()?,
            Arg::Long("messages") => messages = args.value()?.parse()?,
            Arg::Long("slow") => slow = args.value()?.parse()?,
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            _ => return Err(arg.unexpected()),
        }
    }
    let scenario = scenario.ok_or("which scenario?")?;
    let port = port.ok_or("--port is missing")?;
    if pids.is_empty() {
        return Err("--pid is missing".into());
    }
    if depth == 0 || connections == Some(0) || slow >= 100 {
        return Err("--depth and --connections begin at 1, --slow ends at 99".into());
    }
    if raw && (tls.is_some() || compression) {
        return Err("--raw has neither TLS nor compression".into());
    }
    if takeover && !(compression && scenario == Scenario::Idle) {
        return Err("--context-takeover is for idle with --compression".into());
    }
    if compression && size < STORED {
        return Err(format!("--compression takes messages of {STORED} bytes and more").into());
    }
    let compression = match (compression, takeover) {
        (false, _) => None,
        (true, false) => Some(Compression::EachMessageAlone),
        (true, true) => Some(Compression::ContextTakeover),
    };
    let (connections, depth) = match scenario {
        Scenario::Echo => (connections.unwrap_or(100), depth),
        Scenario::Broadcast => (connections.unwrap_or(1000), depth),
        Scenario::Handshake => (connections.unwrap_or(50), 1),
        Scenario::Idle => (connections.unwrap_or(10_000), 1),
        Scenario::Latency => (1, 1),
    };
    let duration = |seconds| Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    let measured = match scenario {
        Scenario::Latency => Limit::Units(messages),
        _ => Limit::After(duration(seconds)?),
    };
    Ok(Command::Run(Box::new(Settings {
        scenario,
        server: SocketAddr::new(host, port),
        pids,
        tls: tls.as_deref().map(tls::configure).transpose()?,
        raw,
        compression,
        content,
        connections,
        depth,
        size: if scenario == Scenario::Handshake { 0 } else { size },
        measured,
        warmup: duration(warmup)?,
        slow,
    })))
}
