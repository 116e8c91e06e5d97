// The package: its version, its types, and that it works where it is installed.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { folder } from "./support.mjs";

const limit = { timeout: 300_000 };
const require = createRequire(import.meta.url);
const call = promisify(execFile);
const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];

/** A folder of its own, removed after the test. */
function empty(t) {
  const path = mkdtempSync(join(tmpdir(), "libwsx-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const PROGRAMS = {
  "esm.mjs": `import { WebSocket, WebSocketServer } from "libwsx"; import Default from "libwsx";\nif (Default !== WebSocket) throw new Error("default");\n`,
  "cjs.cjs": `const { WebSocket, WebSocketServer } = require("libwsx");\n`,
};
const ECHO = `
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handlers: { message: (socket, data) => socket.send(data, { binary: false }) } }, () => {
  const socket = new WebSocket("ws://127.0.0.1:" + server.address().port);
  socket.on("open", () => socket.send("it works"));
  socket.on("message", (data) => { console.log(String(data)); socket.close(); server.close(); });
});
`;

/** Runs the door as it is installed in a folder, by import and by require. */
async function works(path) {
  for (const [name, head] of Object.entries(PROGRAMS)) {
    writeFileSync(join(path, name), head + ECHO);
    assert.equal((await call(process.execPath, [name], { cwd: path })).stdout, "it works\n", name);
  }
}

test("the version is that of the workspace", limit, () => {
  const workspace = readFileSync(join(folder, "../../Cargo.toml"), "utf8");
  assert.equal(manifest.version, /\[workspace\.package\][^[]*?\nversion = "(.*?)"/.exec(workspace)[1]);
  const lock = JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8"));
  assert.deepEqual([lock.version, lock.packages[""].version], [manifest.version, manifest.version]);
  assert.ok(!/"resolved"/.test(readFileSync(join(folder, "package-lock.json"), "utf8")), "the lock file names a registry");
});

test("index.d.ts is what programs can be checked against", limit, async () => {
  const tsc = join(require.resolve("typescript/package.json"), "../bin/tsc");
  await call(process.execPath, [tsc, "-p", join(folder, "test/types")]).catch((error) => assert.fail(error.stdout || error.message));
});

test("index.d.ts has every name that the door exports, and the door every one of its classes", limit, async () => {
  const door = require("../index.js"), names = Object.keys(await import("../index.mjs")).sort();
  assert.deepEqual(names, ["METRICS_TYPE", "Server", "SharedMessage", "WebSocket", "WebSocketServer", "default", "metrics", "stats"]);
  const types = readFileSync(join(folder, "index.d.ts"), "utf8");
  for (const kind of [door, door.WebSocketServer]) {
    for (const name of Object.getOwnPropertyNames(kind.prototype)) {
      if (!name.startsWith("_") && name !== "constructor") assert.match(types, new RegExp(`\\b${name}\\b`), `${name} is not in index.d.ts`);
    }
  }
});

test("the packed addon installs in an empty folder, without a script, and works", limit, async (t) => {
  const path = empty(t);
  const { stdout } = await call("npm", ["pack", "--json", "--pack-destination", path, "--loglevel=error"], { cwd: folder });
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf("[")));
  const names = files.map((file) => file.path);
  for (const name of ["index.js", "index.mjs", "index.d.ts", "index.d.mts", "lib/native.js", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"]) assert.ok(names.includes(name), `${name} is not packed`);
  assert.equal(names.filter((name) => /^libwsx\..*\.node$/.test(name)).length, 1, "one binary");
  assert.ok(!names.some((name) => /^(src|test|binding\.gyp)/.test(name)), names.join(" "));
  writeFileSync(join(path, "package.json"), "{}");
  await call("npm", ["install", join(path, filename), ...quiet], { cwd: path });
  const installed = JSON.parse(readFileSync(join(path, "node_modules/libwsx/package.json"), "utf8"));
  for (const script of ["preinstall", "install", "postinstall"]) assert.equal(installed.scripts[script], undefined, script);
  assert.deepEqual(Object.keys(installed.dependencies ?? {}), []);
  await works(path);
});

test("npm install FOLDER links it, and it works", limit, async (t) => {
  const path = empty(t);
  writeFileSync(join(path, "package.json"), "{}");
  await call("npm", ["install", folder, ...quiet], { cwd: path });
  await works(path);
});

test("a package without a fitting binary says so in one sentence", limit, async (t) => {
  const path = join(empty(t), "libwsx");
  cpSync(folder, path, { recursive: true, filter: (from) => !/node_modules|test|src|Cargo|\.node$/.test(from.slice(folder.length)) });
  const error = await call(process.execPath, ["-e", `
    try { require(${JSON.stringify(path)}); } catch (error) { console.log(error.code, error.message); }
  `]);
  assert.match(error.stdout, /^WSX_ERR_NO_BINARY libwsx: this package has no binary for \S+ \(.*libwsx\..*\.node is missing\)/);
  const { stderr } = await call(process.execPath, ["build.js"], { cwd: path }).then(() => assert.fail("there is nothing to build"), (failed) => failed);
  assert.match(stderr, /^libwsx: there is nothing to build from/);
});

test("no file of the package is more than 500 lines", limit, () => {
  for (const part of ["lib", "src", "test", "."]) {
    for (const name of readdirSync(join(folder, part))) {
      if (!/\.(js|mjs|rs|ts|mts)$/.test(name) || !statSync(join(folder, part, name)).isFile()) continue;
      const lines = readFileSync(join(folder, part, name), "utf8").split("\n").length;
      assert.ok(lines <= 500, `${part}/${name} has ${lines} lines`);
    }
  }
});
