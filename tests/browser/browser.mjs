// Chromium without a window and without any connection of its own.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, "chromium");
    try { accessSync(path, constants.X_OK); return path; } catch { /* not here */ }
  }
  throw new Error("chromium is missing: install Debian's package chromium, or name a browser with CHROMIUM=");
}

/** A browser; CHROMIUM names another one than the first chromium of PATH. */
export function launch() {
  return chromium.launch({
    executablePath: browserPath(),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}
