// The chat page in headless Chromium against a real server: two people enter, write and see each other, one leaves, the
// server is restarted on the same port, and both come back.
//
//   node chat.mjs [-- SERVER ARGUMENTS…]      default: build/chat --page examples/chat.html, from the project's root
//
// The server gets `--port N` at the end of its arguments and must print one line, `listening on http://HOST:PORT` or
// `listening on ws://HOST:PORT`. CHROMIUM names another browser than the first chromium of PATH; SCREENSHOT=FILE keeps
// a picture of the conversation.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const separator = process.argv.indexOf("--");
const command = separator < 0 ? ["build/chat", "--page", "examples/chat.html"] : process.argv.slice(separator + 1);
const STEP_TIMEOUT = 15_000;
const EXIT_TIMEOUT = 10_000;

const steps = [];
async function step(sentence, body) {
  const began = performance.now();
  try {
    const result = await body();
    console.log(`ok   ${sentence} (${Math.round(performance.now() - began)} ms)`);
    steps.push(sentence);
    return result;
  } catch (error) {
    console.log(`FAIL ${sentence}`);
    throw error;
  }
}

// --- The server: one process, one line, SIGTERM, status 0

class Server {
  static async start(port) {
    const server = new Server();
    const [program, ...args] = command;
    server.process = spawn(program, [...args, "--port", String(port)], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
    server.ended = new Promise((resolve, reject) => {
      server.process.once("error", (error) => reject(new Error(`${program} does not start: ${error.message}`)));
      server.process.once("exit", (code, signal) => resolve({ code, signal }));
    });
    server.ended.catch(() => {});
    server.lines = [];
    const lines = createInterface({ input: server.process.stdout });
    const first = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${program} printed nothing in ${STEP_TIMEOUT} ms`)), STEP_TIMEOUT);
      lines.on("line", (line) => { clearTimeout(timer); server.lines.push(line); resolve(line); });
      server.ended.then(
        ({ code, signal }) => { clearTimeout(timer); reject(new Error(`${program} ended (${code ?? signal}) before it listened`)); },
        (error) => { clearTimeout(timer); reject(error); },
      );
    });
    const found = /^listening on (?:http|ws):\/\/(.+):(\d+)$/.exec(first);
    assert.ok(found, `not the line of a listening server: ${first}`);
    server.port = Number(found[2]);
    server.url = `http://${found[1]}:${found[2]}/`;
    return server;
  }

  async stop() {
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), EXIT_TIMEOUT);
    const { code, signal } = await this.ended;
    clearTimeout(timer);
    assert.equal(code, 0, `the server ended with ${code ?? signal} on SIGTERM`);
    assert.deepEqual(this.lines.slice(1), [], "the server prints exactly one line");
  }
}

// --- A person: a browser context of its own, and what its page shows

class Person {
  static async open(browser, url, name) {
    const person = new Person();
    person.name = name;
    person.context = await browser.newContext({ viewport: { width: 1200, height: 800 }, locale: "en-GB", timezoneId: "UTC" });
    person.page = await person.context.newPage();
    person.page.setDefaultTimeout(STEP_TIMEOUT);
    person.errors = [];
    person.serverAway = false;   // while the server is down, the browser itself reports each failed attempt
    person.page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      if (person.serverAway && /WebSocket connection to .* failed/.test(message.text())) return;
      person.errors.push(`${message.type()}: ${message.text()}`);
    });
    person.page.on("pageerror", (error) => person.errors.push(`uncaught: ${error.message}`));
    person.page.on("requestfailed", (request) => person.errors.push(`failed: ${request.url()}`));
    const response = await person.page.goto(url);
    assert.equal(response.status(), 200);
    assert.match(response.headers()["content-type"], /^text\/html\b/);
    return person;
  }

  async enter() {
    await this.page.fill("#name", this.name);
    await this.page.press("#name", "Enter");
    await this.state("connected");
  }

  async write(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
  }

  state(state) {
    return this.page.waitForFunction((state) => document.querySelector("#connection").dataset.state === state, state);
  }

  async people(count) {
    const text = count === 1 ? "1 person" : `${count} people`;
    await this.page.waitForFunction((text) => {
      const it = document.querySelector("#people");
      return !it.hidden && it.textContent === text;
    }, text).catch(async () => assert.equal(await this.page.textContent("#people"), text));
  }

  /** Waits until the log holds this text as a message, and answers how it is shown. */
  async sees(text) {
    const handle = await this.page.waitForFunction((text) => {
      const said = [...document.querySelectorAll(".said")].filter((it) => it.querySelector(".text").textContent === text);
      if (said.length === 0) return null;
      return { times: said.length, own: said[0].classList.contains("own"), by: said[0].querySelector(".by b").textContent,
        time: said[0].querySelector("time").dateTime, elements: said[0].querySelector(".text").childElementCount };
    }, text);
    return handle.jsonValue();
  }

  notes(text) {
    return this.page.$$eval(".note", (notes, text) => notes.filter((it) => it.textContent.startsWith(text)).length, text);
  }

  /** Waits until the log holds this notice so many times. */
  async notices(text, times = 1) {
    await this.page.waitForFunction(([text, times]) =>
      [...document.querySelectorAll(".note")].filter((it) => it.textContent.startsWith(text)).length >= times, [text, times]);
    assert.equal(await this.notes(text), times, `${this.name} sees "${text}" so many times`);
  }
}

async function conversation(browser, running) {
  let server = await step("the server listens", async () => (running.server = await Server.start(0)));
  const { port, url } = server;

  const ann = await step("Ann enters and is alone", async () => {
    const ann = await Person.open(browser, url, "Ann");
    assert.equal(await ann.page.getAttribute("#connection", "data-state"), "idle");
    await ann.enter();
    await ann.people(1);
    await ann.notices("Ann entered");
    return ann;
  });

  const bob = await step("Bob enters and both count two people", async () => {
    const bob = await Person.open(browser, url, "Bob Stone");
    await bob.enter();
    await Promise.all([ann.people(2), bob.people(2), ann.notices("Bob Stone entered"), bob.notices("Bob Stone entered")]);
    assert.equal(await bob.notes("Ann entered"), 0, "what was before Bob is not told to Bob");
    return bob;
  });

  await step("they write and see each other, each one's own messages apart", async () => {
    await ann.write("Good morning! Is the release ready?");
    for (const [who, own, by] of [[ann, true, "You"], [bob, false, "Ann"]]) {
      const seen = await who.sees("Good morning! Is the release ready?");
      assert.deepEqual({ times: seen.times, own: seen.own, by: seen.by }, { times: 1, own, by });
      assert.ok(Math.abs(Date.parse(seen.time) - Date.now()) < 60_000, `the time stamp is now: ${seen.time}`);
    }
    await bob.write("Almost. The last tests are running.");
    assert.equal((await ann.sees("Almost. The last tests are running.")).own, false);
    assert.equal((await bob.sees("Almost. The last tests are running.")).own, true);
    assert.equal(await ann.page.inputValue("#text"), "", "the field is empty again");
  });

  await step("markup and other scripts arrive as text", async () => {
    for (const text of ['<b>bold</b> & <img src=x onerror="alert(1)"> \\ "quoted"', "日本語, العربية, naïve, 👩‍🚀 \u{1F600}", "two\nlines"]) {
      await bob.write(text);
      assert.equal((await ann.sees(text)).elements, 0);
    }
  });

  await step("many messages arrive once each, in order", async () => {
    const sent = Array.from({ length: 30 }, (_, i) => `message ${i + 1}`);
    for (const text of sent) await ann.write(text);
    await bob.sees(sent.at(-1));
    const seen = await bob.page.$$eval(".text", (all) => all.map((it) => it.textContent).filter((text) => /^message \d+$/.test(text)));
    assert.deepEqual(seen, sent);
  });

  await step("Bob leaves, and Ann is told once", async () => {
    await bob.page.click("#leave");
    await bob.state("left");
    await ann.people(1);
    await ann.notices("Bob Stone left");
    assert.equal(await bob.page.isVisible("#name"), true, "Bob stands at the door again");
  });

  await step("a page that vanishes is told as having left", async () => {
    const guest = await Person.open(browser, url, "Guest");
    await guest.enter();
    await ann.people(2);
    await guest.context.close();
    await ann.people(1);
    await ann.notices("Guest left");
    assert.deepEqual(guest.errors, []);
  });

  await step("the server stops, and Ann's page says that it reconnects", async () => {
    ann.serverAway = true;
    await server.stop();
    running.server = null;
    await ann.page.waitForFunction(() => /^(reconnecting in \d+ s|connecting)$/.test(document.querySelector("#state").textContent));
    assert.equal(await ann.page.isDisabled("#send"), true);
  });

  await step("the server is back on the same port, and so is Ann, by herself", async () => {
    server = running.server = await Server.start(port);
    assert.equal(server.port, port);
    await ann.state("connected");
    ann.serverAway = false;
    await ann.people(1);
    await ann.notices("Ann entered", 2);
  });

  await step("Bob enters again, and they talk on", async () => {
    await bob.enter();
    await Promise.all([ann.people(2), bob.people(2)]);
    await bob.write("Back again.");
    assert.equal((await ann.sees("Back again.")).own, false);
    await ann.write("Welcome back!");
    assert.equal((await bob.sees("Welcome back!")).by, "Ann");
  });

  await step("what is not JSON, or comes before enter, is refused with 1008", async () => {
    for (const first of ["not JSON", JSON.stringify({ type: "message", sender: "Eve", text: "hi", time: new Date().toISOString() })]) {
      const code = await ann.page.evaluate((first) => new Promise((resolve) => {
        const socket = new WebSocket(`ws://${location.host}/chat`);
        socket.onopen = () => socket.send(first);
        socket.onclose = (event) => resolve(event.code);
      }), first);
      assert.equal(code, 1008);
    }
    await ann.people(2);
  });

  await step("neither page reports an error", () => {
    for (const who of [ann, bob]) assert.deepEqual(who.errors, [], `${who.name}'s console`);
  });

  await step("the page fits a telephone, and has no sideways scrolling", async () => {
    await bob.page.setViewportSize({ width: 360, height: 640 });
    const [inside, outside] = await bob.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(inside <= outside, `${inside} > ${outside}`);
    assert.equal(await bob.page.isVisible("#text"), true);
  });

  for (const who of [ann, bob]) await who.context.close();
  if (process.env.SCREENSHOT) await step(`a screenshot in ${process.env.SCREENSHOT}`, () => screenshot(browser, url, process.env.SCREENSHOT));
  await step("the server ends with status 0", async () => {
    await server.stop();
    running.server = null;
  });
}

async function screenshot(browser, url, path) {
  const people = {};
  for (const name of ["Ann", "Bob Stone", "Mina"]) {
    people[name] = await Person.open(browser, url, name);
    await people[name].enter();
  }
  const talk = [
    ["Ann", "Morning, all! Who is coming to the lake on Saturday?"],
    ["Bob Stone", "Me 😀 and I bring the big tent."],
    ["Bob Stone", "Is there a train before nine?"],
    ["Mina", "One at 08:12 from the main station."],
    ["Mina", "I can take bread, cheese and a kettle, if somebody else thinks of the stove this time."],
    ["Ann", "The stove is in my bag already."],
    ["Bob Stone", "Then see you all at eight!"],
  ];
  for (const [name, text] of talk) {
    await people[name].write(text);
    for (const who of Object.values(people)) await who.sees(text);
  }
  await people.Ann.page.screenshot({ path: join(root, path) });
  for (const who of Object.values(people)) await who.context.close();
}

const running = { server: null };
const browser = await launch();
try {
  await conversation(browser, running);
  console.log(`${steps.length} passed, 0 failed`);
} catch (error) {
  console.error(error.stack);
  console.log(`${steps.length} passed, 1 failed`);
  process.exitCode = 1;
} finally {
  await browser.close();
  running.server?.process.kill("SIGKILL");
}
