//! Statistics as Prometheus reads them: the text format, version 0.0.4.

use std::fmt::Write as _;

use super::{Figure, Statistics};

/// What an HTTP answer with this text has as its Content-Type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The name that a field has in Prometheus, what kind it is, the names of its labels, and what it tells.
struct Metric {
    field: &'static str,
    name: &'static str,
    is_gauge: bool,
    labels: &'static [&'static str],
    help: &'static str,
}

const fn counter(
    field: &'static str,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { field, name, is_gauge: false, labels, help }
}

const fn gauge(field: &'static str, name: &'static str, help: &'static str) -> Metric {
    Metric { field, name, is_gauge: true, labels: &[], help }
}

const METRICS: [Metric; 20] = [
    gauge("connections", "wsx_connections", "Connections that are open or closing."),
    gauge("handshakes", "wsx_handshakes", "Connections in the opening handshake, or being refused."),
    gauge("buffered_bytes", "wsx_buffered_bytes", "Bytes that wait because the kernel takes no more."),
    counter("accepted", "wsx_accepted_total", &[], "Connections accepted."),
    counter("connects", "wsx_connects_total", &[], "Client connections begun."),
    counter("opened", "wsx_opened_total", &[], "Opening handshakes that succeeded."),
    counter("streams", "wsx_streams_total", &[], "HTTP streams begun."),
    counter("answered", "wsx_answered_total", &[], "Plain HTTP requests answered by the request hook."),
    counter("refused", "wsx_refused_total", &["cause"], "Accepted connections that came to nothing."),
    counter("connects_failed", "wsx_connects_failed_total", &["stage"], "Client connections that did not open."),
    counter("messages_received", "wsx_messages_received_total", &[], "Messages told to the program."),
    counter(
        "messages_sent",
        "wsx_messages_sent_total",
        &[],
        "Messages taken from the program, once for each receiver.",
    ),
    counter("bytes_received", "wsx_bytes_received_total", &[], "Bytes received, without TLS."),
    counter("bytes_sent", "wsx_bytes_sent_total", &[], "Bytes that the kernel took, without TLS."),
    counter("messages_lost", "wsx_messages_lost_total", &[], "Messages taken from the program and then lost."),
    counter("failures", "wsx_failures_total", &["stage", "kind"], "Connections that failed."),
    counter("closes", "wsx_closes_total", &["code"], "Connections that ended, by close code."),
    counter("listener_errors", "wsx_listener_errors_total", &[], "Errors of listeners, as in accepting."),
    counter("turns", "wsx_turns_total", &[], "Turns of the event loop."),
    gauge("longest_callback", "wsx_longest_callback_seconds", "The longest time that callbacks took; 0: not measured."),
];

/// Writes statistics in the text format of Prometheus (version 0.0.4, which OpenMetrics' readers take as well): each scope
/// with the name of its listener as the label `listener`, or without where the name is empty. Figures of the loop itself
/// are those of the scopes without a name.
pub fn render<'s>(scopes: impl IntoIterator<Item = (&'s str, &'s Statistics)>) -> String {
    let scopes: Vec<(&str, Vec<Figure>)> =
        scopes.into_iter().map(|(listener, statistics)| (listener, statistics.figures())).collect();
    let mut text = String::new();
    for metric in &METRICS {
        let kind = if metric.is_gauge { "gauge" } else { "counter" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
        let is_of_loop = matches!(metric.field, "turns" | "longest_callback");
        for (listener, figures) in scopes.iter().filter(|(listener, _)| listener.is_empty() || !is_of_loop) {
            for figure in figures.iter().filter(|figure| figure.field == metric.field) {
                write_sample(&mut text, metric, listener, figure);
            }
        }
    }
    text
}

fn write_sample(text: &mut String, metric: &Metric, listener: &str, figure: &Figure) {
    let own = metric.labels.iter().copied().zip(figure.labels.iter().map(String::as_str));
    let all = own.map(|(name, value)| if name == "code" { (name, codes(value)) } else { (name, value) });
    let all = Some(("listener", listener)).filter(|(_, listener)| !listener.is_empty()).into_iter().chain(all);
    text.push_str(metric.name);
    let mut sign = '{';
    for (name, value) in all {
        let _ = write!(text, "{sign}{name}=\"{}\"", escaped(value));
        sign = ',';
    }
    if sign == ',' {
        text.push('}');
    }
    let _ = match metric.field {
        "longest_callback" => writeln!(text, " {}", figure.value as f64 / 1e9),
        _ => writeln!(text, " {}", figure.value),
    };
}

/// What a figure of closes counts.
fn codes(code: &str) -> &str {
    match code {
        "3000" => "3000-3999",
        "4000" => "4000-4999",
        code => code,
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{FailureKind, Stage};
    use crate::statistics::Refusal;

    #[test]
    fn every_figure_has_its_metric_and_every_metric_its_figure() {
        let all = Statistics {
            refused: [(Refusal::Full, 1)].into(),
            connects_failed: [(Stage::Tls, 1)].into(),
            failures: [((Stage::Tls, FailureKind::Protocol), 1)].into(),
            closes: [(1000, 1)].into(),
            ..Statistics::default()
        };
        let figures: Vec<_> = all.figures().iter().map(|figure| (figure.field, figure.labels.len())).collect();
        let metrics: Vec<_> = METRICS.iter().map(|metric| (metric.field, metric.labels.len())).collect();
        assert_eq!(figures, metrics);
    }

    #[test]
    fn scopes_are_told_apart_by_their_listener() {
        let clients = Statistics { opened: 1, turns: 5, longest_callback: 1_500_000, ..Statistics::default() };
        let server = Statistics {
            closes: [(1000, 3), (4000, 2)].into(),
            failures: [((Stage::WebSocket, FailureKind::Timeout), 4)].into(),
            ..Statistics::default()
        };
        let text = render([("", &clients), ("unix:/a\"b\\c", &server)]);
        for line in [
            "# TYPE wsx_opened_total counter\nwsx_opened_total 1\nwsx_opened_total{listener=\"unix:/a\\\"b\\\\c\"} 0\n",
            "wsx_failures_total{listener=\"unix:/a\\\"b\\\\c\",stage=\"websocket\",kind=\"timeout\"} 4\n",
            "wsx_closes_total{listener=\"unix:/a\\\"b\\\\c\",code=\"4000-4999\"} 2\n",
            "# TYPE wsx_turns_total counter\nwsx_turns_total 5\n# HELP",
            "# TYPE wsx_longest_callback_seconds gauge\nwsx_longest_callback_seconds 0.0015\n",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }
}
