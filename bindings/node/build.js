'use strict';
// Builds the addon with cargo and puts it beside package.json: `node build.js`, or `node build.js --if-missing` (what
// npm's `prepare` does) where there may be a binary already. Needs Node and Rust, no package.

const { spawnSync } = require('node:child_process');
const { copyFileSync, existsSync, renameSync } = require('node:fs');
const { join } = require('node:path');
const { platform } = require('./lib/native.js');

const file = join(__dirname, `libwsx.${platform()}.node`);
const manifest = join(__dirname, 'Cargo.toml');

function fail(message) {
  console.error(`libwsx: ${message}`);
  process.exit(1);
}

if (process.argv.includes('--if-missing') && existsSync(file)) process.exit(0);
if (!existsSync(manifest)) fail('there is nothing to build from here: this is the packed addon, made for other machines.');

const cargo = spawnSync('cargo', ['build', '--release', '--manifest-path', manifest, '--message-format', 'json-render-diagnostics'],
  { stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28, encoding: 'utf8' });
if (cargo.error?.code === 'ENOENT') fail('cargo is missing: install Rust 1.88 or newer with rustup.');
if (cargo.status !== 0) fail('the addon could not be built; what cargo says is above.');

const built = cargo.stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  .filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'wsx_node')
  .flatMap(({ filenames }) => filenames).find((name) => /\.(so|dylib|dll)$/.test(name));
if (!built) fail('cargo told no name of the addon that it has built.');

for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT', 'LICENSE-THIRD-PARTY']) copyFileSync(join(__dirname, '../..', licence), join(__dirname, licence));

// Renamed into its place: a process that has loaded the old one keeps it.
copyFileSync(built, `${file}.new`);
renameSync(`${file}.new`, file);
