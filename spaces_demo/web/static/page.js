// The page: its states, and what is shown. The model runs in worker.js; `Player` and `Microphone` come from
// player.js and microphone.js, which are plain scripts.
//
//   loading ─► idle ─► listening ─► thinking ─► speaking ─► idle

import { detectTurn } from "./detector.js";
import { Message } from "./message.js";
import { microphoneIsMissing, modelIsMissing, refusal } from "./support.js";

const find = (id) => document.getElementById(id);
const voice = document.querySelector("#voice [data-state]");
const HINTS = {
  idle: "Tap to talk, or write",
  listening: "Listening. Pause, and it is sent",
  thinking: "Thinking. Tap to stop",
  speaking: "Speaking. Tap to stop",
};
const LABELS = { idle: "Talk", listening: "Send", thinking: "Stop", speaking: "Stop" };
const PATIENCE = 8; // seconds until the speaker should have begun

let model = null; // {samplingRate, maxSeconds, markers}
let microphone = null; // while it is open
let reply = null; // the last one: {id, message, chunks, samples, ids, asked, firstAudio, isDone}
let numReplies = 0;

function show(state, sentence = HINTS[state]) {
  voice.dataset.state = state;
  find("hint").textContent = sentence;
  find("talk").setAttribute("aria-label", LABELS[state] ?? "Talk");
  find("talk").disabled = find("send").disabled = !model;
}

// ---------------------------------------------------------------------------------------------------------- the reply

const player = new Player(
  () => {
    voice.dataset.gaps = player.gaps;
    if (!reply || microphone) return;
    if (player.isPlaying) show("speaking");
    else if (reply.isDone) show("idle");
  },
  (_, when) => {
    reply.firstAudio = (when - reply.asked) / 1000;
    tell();
  },
);

// Asks a question {text} or {waveform}; `asked` is when it ended, in the milliseconds of `performance.now`.
function ask(question, shown, asked = performance.now()) {
  stop();
  const id = ++numReplies;
  reply = { id, asked, message: new Message(find("chat"), shown), question, chunks: [], samples: [], ids: [] };
  show("thinking");
  worker.postMessage({ ask: question, id });
}

function stop() {
  if (!reply || reply.isDone) return player.silence();
  worker.postMessage({ stop: reply.id });
  reply.isDone = true;
  player.stop();
}

function take(event) {
  if (event.promptIds) reply.promptIds = event.promptIds;
  if (event.ids) reply.ids.push(...event.ids);
  reply.message.show(event, model.markers);
  if (!event.samples) return;
  reply.samples.push(event.samples);
  reply.chunks.push(toBase64(new Uint8Array(toPcm16(event.samples).buffer)));
  player.take({ reply: reply.id, rate: model.samplingRate, chunks: reply.chunks, done: false });
}

function finish({ seconds }) {
  reply.isDone = true;
  reply.seconds = seconds;
  player.take({ reply: reply.id, rate: model.samplingRate, chunks: reply.chunks, done: true });
  tell();
  document.dispatchEvent(new CustomEvent("reply", { detail: reply })); // for programs that use this page
}

function tell() {
  const figures = [];
  if (reply.firstAudio !== undefined) figures.push(`first audio after ${reply.firstAudio.toFixed(2)} s`);
  const length = reply.samples.reduce((sum, chunk) => sum + chunk.length, 0) / model.samplingRate;
  const factor = (reply.seconds / length).toFixed(2);
  if (reply.seconds && length) figures.push(`${factor} s of computing for a second of audio`)
  reply.message.figures.textContent = figures.join(" · ");
}

function fail(sentence, id) {
  if (id === undefined) {
    find("progress").hidden = true;
    return show("loading", sentence);
  }
  if (id !== reply?.id) return;
  reply.isDone = true;
  reply.message.fail(sentence);
  show("idle");
}

// ----------------------------------------------------------------------------------------------------- the microphone

async function listen() {
  const missing = microphoneIsMissing();
  if (missing) return show("idle", missing);
  const opened = new Microphone(detect, follow, (loudness) => {
    voice.style.setProperty("--loudness", Math.min(1, loudness * 6).toFixed(3));
    if (opened.begins === null && opened.seconds > PATIENCE) close("Nobody spoke. Tap to try again");
    else if (opened.seconds - (opened.begins ?? 0) > model.maxSeconds - 1) send();
  });
  microphone = opened;
  show("listening");
  try {
    await opened.open(false);
  } catch (error) {
    if (microphone === opened) close(refusal(error));
  }
}

const detect = async ({ audio, memory }) => {
  const pcm = new Int16Array(fromBase64(audio).buffer);
  return detectTurn({ samples: Float32Array.from(pcm, (x) => x / 32768), memory });
};

function follow() {
  if (microphone.detected.is_over) send();
}

function close(sentence) {
  microphone?.close();
  microphone = null;
  show("idle", sentence);
}

// Sends the question: its audio at the rate of the model.
async function send() {
  const { detected, begins, ends } = microphone;
  const asked = detected?.is_over ? microphone.timeOf(ends) : performance.now();
  const file = microphone.cut(detected?.is_over ? ends : undefined, model.maxSeconds);
  close();
  if (begins === null) return show("idle", "Nobody spoke. Tap to try again");
  show("thinking");
  const context = new OfflineAudioContext(1, 1, model.samplingRate); // it resamples what it decodes
  const audio = await context.decodeAudioData(fromBase64(file).buffer);
  ask({ waveform: audio.getChannelData(0) }, `Spoken question (${audio.duration.toFixed(1)} s)`, asked);
}

// -------------------------------------------------------------------------------------------------------- the buttons

// Browsers let a page play audio only after a tap or a key.
const wake = () => model && player.wake(player.context?.sampleRate || model.samplingRate);
for (const gesture of ["pointerdown", "keydown"]) document.addEventListener(gesture, wake);

find("talk").addEventListener("click", () => {
  if (microphone) send();
  else if (reply && (!reply.isDone || player.isPlaying)) {
    stop();
    show("idle");
  } else listen();
});
find("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("box").value.trim();
  if (!text || !model) return;
  microphone?.close();
  microphone = null;
  find("box").value = "";
  ask({ text }, text);
});

// --------------------------------------------------------------------------------------------------------- the worker

function answered({ data: { loaded, ready, event, done, failed, id } }) {
  if (loaded) find("progress").value += loaded;
  if (ready) {
    model = ready;
    find("progress").hidden = true;
    show("idle");
  }
  if (failed) fail(failed, id);
  if (!reply || id !== reply.id || reply.isDone) return;
  if (event) take(event);
  if (done) finish(done);
}

let worker = null;
const missing = modelIsMissing();
if (missing) fail(missing);
else {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = answered;
  worker.onerror = () => fail("This browser cannot run the model. Use a current Chrome, Edge, Firefox or Safari.");
}
