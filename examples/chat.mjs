// A chat room: the page at /, its WebSocket at /chat, on one port.
//
//     node chat.mjs [--host HOST] [--port PORT] [--page FILE]
//
// Every message is a JSON object of four strings: type ("enter", "leave" or "message"), sender, text and time. The first
// one of a connection enters with a name. The server hands each to everybody in the room, the sender included, and adds
// "people", the number of those in the room. Who vanishes without leaving is said to leave. Whatever else is sent ends
// the connection with 1008 and the reason.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { WebSocketServer } from "libwsx";

const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({ options: { host: text("127.0.0.1"), port: text("8080"), page: text("examples/chat.html") } });
const page = readFileSync(values.page);
const people = new Map();                                   // who is in the room: names, by connection

/** Hands a message to everybody; answers what is wrong with it. */
function obey(socket, message) {
  const { type, sender, text, time } = message ?? {};
  if ([type, sender, text, time].some((field) => typeof field !== "string")) return "a message is a JSON object of the strings type, sender, text and time";
  if ([...text].length > 4000 || time.length > 40) return "a text has at most 4000 characters, a time 40";
  const name = people.get(socket);
  if (type === "enter") {
    if (name !== undefined) return "you are in the room already";
    if (sender === "" || [...sender].length > 40) return "a name has 1 to 40 characters";
    people.set(socket, sender);
    socket.subscribe("room");
  } else if (name === undefined) return "enter first";
  else if (name !== sender) return "the sender is not who entered";
  else if (type === "leave") people.delete(socket);
  else if (type !== "message") return "the type is enter, leave or message";
  tellEverybody({ type, sender, text, time });
  if (type === "leave") socket.unsubscribe("room");
}

function tellEverybody(message) {
  server.publish("room", JSON.stringify({ ...message, people: people.size }));
}

function parse(json) {
  try { return JSON.parse(json); } catch { return null; }
}

const server = new WebSocketServer({
  host: values.host, port: Number(values.port), maxMessage: 32 * 1024,
  handleRequest({ path, method, isUpgrade }) {
    if (path === "/chat") return undefined;
    if (path !== "/" || isUpgrade) return { status: 404, body: "The page is at /, its WebSocket at /chat.\n" };
    return method === "GET" ? { headers: { "Content-Type": "text/html; charset=utf-8" }, body: page } : 405;
  },
  handlers: {
    message(socket, data, isBinary) {
      const wrong = obey(socket, isBinary ? null : parse(data));
      if (wrong) socket.close(1008, wrong);
    },
    close(socket) {
      const sender = people.get(socket);
      if (people.delete(socket)) tellEverybody({ type: "leave", sender, text: "", time: new Date().toISOString() });
    },
  },
});
server.on("listening", () => {
  const { address, family, port } = server.address();
  console.log(`listening on http://${family === "IPv6" ? `[${address}]` : address}:${port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close({ code: 1001, timeout: 1000 }));
