'use strict';
// What was counted, of a server or of everything on this thread.

const { NOBODY, attempt } = require('./border.js');

/** The Content-Type of what `metrics` answers. */
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const camel = (field) => field.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** The figures of a listener, or of everybody. */
function statsOf(listener) {
  const stats = { refused: {}, connectsFailed: {}, failures: {}, closes: {} };
  for (const { field, labels, value } of attempt('statistics', listener)) {
    let at = stats, name = camel(field);
    for (const label of labels) {
      at = at[name] ??= {};
      name = label;
    }
    at[name] = value;
  }
  return stats;
}

/** What was counted of all servers and clients of this thread. */
function stats() {
  return statsOf(NOBODY);
}

/** The same in the text format of Prometheus. */
function metrics() {
  return attempt('metrics');
}

module.exports = { METRICS_TYPE, metrics, stats, statsOf };
