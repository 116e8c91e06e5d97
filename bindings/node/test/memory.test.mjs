// Resident memory stays where it is: see fixtures/memory.mjs for what is done.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const MOST = 4 * 1024;                    // KiB: four bytes a message, 300 a connection

test("a million messages and 20,000 connections leave no memory behind", { timeout: 300_000 }, async (t) => {
  // A small nursery, so that the heap has its size when the first look is taken.
  const { stdout } = await promisify(execFile)(process.execPath,
    ["--expose-gc", "--max-semi-space-size=1", fileURLToPath(new URL("fixtures/memory.mjs", import.meta.url))]);
  t.diagnostic(stdout);
  const lines = stdout.trim().split("\n").map((line) => line.split(" "));
  assert.deepEqual(lines.map(([what, count]) => [what, count]), [["talk", "1000000"], ["visit", "20000"]], stdout);
  for (const [what, , growth] of lines) assert.ok(Number(growth) < MOST, `${what} left ${growth} KiB behind`);
});
