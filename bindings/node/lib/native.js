'use strict';
// The addon: which file fits this machine, and one clear sentence where none does.

const { existsSync } = require('node:fs');
const { join } = require('node:path');

const folder = join(__dirname, '..');

/** The name of this machine's kind of binary, as `linux-x64-gnu`. */
function platform() {
  const kind = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return kind;
  const { glibcVersionRuntime } = process.report.getReport().header;
  return `${kind}-${glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

function failure(code, message, cause) {
  const error = new Error(`libwsx: ${message}`, cause && { cause });
  error.code = code;
  return error;
}

/** Loads the addon. @throws {Error} with code `WSX_ERR_PLATFORM`, `WSX_ERR_NO_BINARY` or `WSX_ERR_BINARY`. */
function load() {
  for (const other of ['bun', 'deno']) {
    if (process.versions[other]) throw failure('WSX_ERR_PLATFORM', `${other} is not supported yet; use Node 20 or newer.`);
  }
  const kind = platform();
  const file = join(folder, `libwsx.${kind}.node`);
  if (!existsSync(file)) {
    throw failure('WSX_ERR_NO_BINARY', `this package has no binary for ${kind} (${file} is missing). ` +
      'With its sources and Rust 1.88 or newer, "npm run build" in the folder of the package makes one.');
  }
  try {
    return require(file);
  } catch (error) {
    throw failure('WSX_ERR_BINARY', `the binary for ${kind} cannot be loaded by Node ${process.versions.node}: ${error.message}`, error);
  }
}

module.exports = { load, platform };
