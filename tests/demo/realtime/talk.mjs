// Stock clients for Node in a conversation: `node talk.mjs CLIENT URL`, beside `node_modules` and the recordings 1, 10 and
// 6, 16-bit samples at 24 kHz. CLIENT is `agents` or `openai`. Asks by voice, interrupts the second reply, and asks on.
// Writes {events, transcripts, seconds}: kinds of the server's events, the replies as the conversation has them in the
// end, and how much audio came.
import { readFileSync } from "node:fs";
import { connect } from "node:net";

const RATE = 24000;
const [client, url] = process.argv.slice(2);
const read = (name) => readFileSync(new URL(`${name}.pcm`, import.meta.url));
const silence = (seconds) => Buffer.alloc(2 * RATE * seconds);
const LATE = "response_cancel_not_active"; // for a reply that was complete when it was cancelled
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const events = [];
let bytes = 0;
let wake = () => {};

function take(event) {
  if (event.type === "error" && event.error.code !== LATE) throw new Error(JSON.stringify(event));
  events.push(event);
  wake();
}

const count = (kind) => events.filter(({ type }) => type === kind).length;

async function until(kind, number) {
  while (count(kind) < number) await new Promise((resolve) => (wake = resolve));
}

// Asks as a microphone does, a tenth of a second at a time, until the response of this number begins.
async function ask(send, name, number) {
  const recording = Buffer.concat([read(name), silence(5)]);
  for (let start = 0; start < recording.length && count("response.created") < number; start += RATE / 5) {
    send(recording.subarray(start, start + RATE / 5));
    await sleep(0.1);
  }
}

async function talk(send, interrupt) {
  await ask(send, 1, 1);
  await until("response.done", 1);
  await sleep(bytes / 2 / RATE); // it has been played: the next question does not interrupt it
  const deltas = count("response.output_audio.delta");
  await ask(send, 10, 2);
  await until("response.output_audio.delta", deltas + 1);
  await interrupt();
  await ask(send, 6, 3);
  await until("response.done", 3);
}

async function talkWithAgents() {
  const { RealtimeAgent, RealtimeSession } = await import("@openai/agents-realtime");
  const session = new RealtimeSession(new RealtimeAgent({ name: "nano" }), { transport: "websocket", model: "ttt" });
  session.on("error", ({ error }) => take({ type: "error", error }));
  session.on("transport_event", take);
  session.on("audio", ({ data }) => (bytes += data.byteLength));
  await session.connect({ apiKey: "none", url: `${url}/realtime?model=ttt` });
  await talk(
    (piece) => session.sendAudio(new Uint8Array(piece).buffer),
    () => {}, // the voice does it
  );
  const items = session.history.filter(({ role }) => role === "assistant");
  session.close();
  return items.map(({ content }) => content.map(({ transcript }) => transcript).join(""));
}

async function talkWithOpenAI() {
  const { default: OpenAI } = await import("openai");
  const { OpenAIRealtimeWS } = await import("openai/realtime/ws");
  const openai = new OpenAI({ apiKey: "none", baseURL: url.replace("ws", "http") });
  const options = { createConnection: ({ host, port }) => connect(port, host) }; // it asks for TLS, whatever `baseURL` is
  const connection = new OpenAIRealtimeWS({ model: "ttt", options }, openai);
  connection.on("error", ({ message, error }) => take({ type: "error", error: error ?? { message } }));
  connection.on("event", take);
  connection.on("response.output_audio.delta", ({ delta }) => (bytes += Buffer.from(delta, "base64").length));
  await until("session.created", 1);
  connection.send({ type: "session.update", session: { type: "realtime", output_modalities: ["audio"] } });
  await until("session.updated", 1);
  await talk(
    (piece) => connection.send({ type: "input_audio_buffer.append", audio: piece.toString("base64") }),
    async () => {
      connection.send({ type: "response.cancel" });
      await until("response.done", 2);
      const item = events.findLast(({ type }) => type === "response.done").response.output[0];
      connection.send({ type: "conversation.item.truncate", item_id: item.id, content_index: 0, audio_end_ms: 0 });
      connection.send({ type: "conversation.item.retrieve", item_id: item.id });
      await until("conversation.item.retrieved", 1);
    },
  );
  const replies = events.filter(({ type }) => type === "response.done").map(({ response }) => response.output[0]);
  replies[1] = events.find(({ type }) => type === "conversation.item.retrieved").item;
  connection.close();
  return replies.map(({ content }) => content[0].transcript);
}

const transcripts = await (client === "agents" ? talkWithAgents() : talkWithOpenAI());
console.log(JSON.stringify({ events: events.map(({ type }) => type), transcripts, seconds: bytes / 2 / RATE }));
process.exit();
