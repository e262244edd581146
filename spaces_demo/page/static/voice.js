// The conversation of the page: whether the user or the model speaks. Runs behind player.js and microphone.js as `js_on_load` of a gr.HTML, with
// `element`, `props`, `trigger`, `server` and `watch` from Gradio.
//
// Python sends `props.value`: {reply, rate, chunks, done}, and another `refused` each time that a question was refused. It
// is a state and not an event: a reply's chunks only ever grow, so it does no harm when the page draws several updates as
// one. Gradio sends only what is new.
//
//   speech ... pause of SEND_AFTER: `asked`, and the reply is held ┬ the detector says that the turn is over: `confirmed`
//                                                                  └ the speaker goes on: `withdrawn`; all is asked later

const SEND_AFTER = 0.45; // seconds of silence after which the reply is prepared
const RESUMES = 0.12; // seconds of speech that show that the speaker goes on: a click does not
const INTERRUPTS = 0.5; // seconds of speech that interrupt a reply: "mhm" does not
const REMARK_ENDS = 0.25; // seconds of silence that end a remark which does not
const PATIENCE = 8, FREE_PATIENCE = 60; // seconds until the speaker should have begun

const button = element.querySelector(".voice-button");
const hint = element.querySelector(".voice-hint");
const NOBODY = "Nobody spoke. Tap to try again";
const HINTS = {
  tap: {
    idle: "Tap to talk",
    listening: "Listening. Pause, and it is sent",
    thinking: "Thinking. Tap to stop",
    speaking: "Speaking. Tap to stop",
  },
  free: {
    idle: "Tap to begin a conversation",
    listening: "Listening. Tap to end",
    thinking: "Thinking. Tap to stop",
    speaking: "Speaking. Talk or tap to interrupt",
  },
  hold: {
    idle: "Hold to talk, with a finger or the space bar",
    listening: "Listening. Release, and it is sent",
    thinking: "Thinking. Tap to stop, hold to talk",
    speaking: "Speaking. Tap to stop, hold to talk",
  },
};

let mode = "tap";
let microphone = null; // while it is open
let asked = null; // the last spoken question: {name, ended}
const dropped = new Set(); // names of questions that were withdrawn, or whose replies were interrupted
let sentSpeech = null; // how much speech there was when a question was sent that may go on
let listeningSince = 0;
let refused;

function show(state, sentence) {
  if (state === "listening" && element.dataset.state !== state) listeningSince = performance.now();
  element.dataset.state = state;
  button.setAttribute("aria-label", HINTS[mode][state]);
  button.setAttribute("aria-pressed", String(state === "listening"));
  hint.textContent = sentence || HINTS[mode][state];
}
const isAwaited = () => asked && !dropped.has(asked.name);
const isAnswering = () => ["thinking", "speaking"].includes(element.dataset.state);

// ---------------------------------------------------------------------------------------------------------- the reply

const player = new Player(
  () => {
    element.dataset.gaps = player.gaps;
    const isComing = isAwaited() && player.reply !== asked.name && !player.isPlaying;
    if (element.dataset.state === "listening" || isComing) return;
    if (player.isPlaying) show("speaking");
    else if (player.isStopped || player.isWhole) rest();
    else show("thinking");
  },
  (reply, when) => {
    if (asked?.name === reply) trigger("played", { name: reply, seconds: (when - asked.ended) / 1000 });
  },
);

// What there is to do when no reply is being given: listen, in a conversation.
function rest(sentence) {
  show(microphone ? "listening" : "idle", sentence);
}

// Stops the reply, which may still be to come; what was not played is taken out of the conversation.
function interrupt() {
  const name = asked && !player.known.has(asked.name) ? asked.name : player.reply;
  trigger("interrupted", { name, seconds: forget(name) });
}

// Never plays a reply (again); returns how much of it was played, in seconds.
function forget(name) {
  dropped.add(name);
  player.isHeld = false;
  player.known.add(name);
  return player.reply === name ? player.stop() : 0;
}

// ------------------------------------------------------------------------------------------------------- the question

const REFUSALS = {
  NotAllowedError: "The browser may not use the microphone. Allow it beside the address, or write",
  NotFoundError: "There is no microphone. Upload audio, or write",
};

async function listen() {
  if (!navigator.mediaDevices) return show("idle", "Microphones need https or localhost. Upload audio, or write");
  const opened = new Microphone((message) => server.answer_microphone(message), follow, (loudness) => {
    element.style.setProperty("--loudness", Math.min(1, loudness * 6).toFixed(3));
    if (opened.seconds - (opened.begins ?? (mode === "free" ? opened.seconds : 0)) > props.max_seconds) finish();
  }, () => end("The server cannot be reached. Try again, or write"));
  microphone = opened;
  if (mode === "free") opened.kept = 1;
  show("listening");
  try {
    await opened.open(mode === "free"); // a reply may be played meanwhile
  } catch (error) {
    if (microphone === opened) end(REFUSALS[error.name] || "The microphone could not be opened. Upload audio, or write");
  }
}

// Closes the microphone.
function end(sentence) {
  microphone?.close();
  microphone = sentSpeech = null;
  if (element.dataset.state === "listening") show("idle", sentence);
}

// After each answer of the detector.
function follow() {
  const { detected, begins, speech } = microphone;
  if (mode === "hold") return;
  if (isAnswering()) {
    if (begins === null) return;
    if (speech >= INTERRUPTS) {
      interrupt();
      show("listening");
    } else if (detected.silence >= REMARK_ENDS) microphone.restart();
    return;
  }
  if (begins === null) {
    const patience = mode === "free" ? FREE_PATIENCE : PATIENCE;
    if (performance.now() - listeningSince > 1000 * patience) end(NOBODY);
    return;
  }
  if (sentSpeech !== null && speech > sentSpeech + RESUMES) withdraw();
  if (sentSpeech === null && (detected.is_over || detected.silence >= SEND_AFTER)) send(microphone.ends);
  if (detected.is_over) finish();
}

// Asks what was said so far, and holds the reply back.
function send(ends) {
  const name = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  asked = { name, ended: microphone.timeOf(Math.min(ends ?? microphone.seconds, microphone.seconds)) };
  sentSpeech = microphone.speech;
  player.isHeld = true;
  trigger("asked", { name, audio: microphone.cut(ends, props.max_seconds) });
}

function withdraw() {
  trigger("withdrawn", { name: asked.name });
  forget(asked.name);
  sentSpeech = null;
}

// The question is over: its reply is played.
function finish() {
  if (!microphone) return;
  if (sentSpeech === null) send(microphone.detected?.is_over && mode !== "hold" ? microphone.ends : undefined);
  if (mode === "free") microphone.restart();
  else {
    microphone.close();
    microphone = null;
  }
  sentSpeech = null;
  show("thinking");
  trigger("confirmed", { name: asked.name });
  player.release(props.value?.reply === asked.name ? props.value : null);
}

// -------------------------------------------------------------------------------------------------------- the buttons

// Browsers let a page play audio only after a tap.
const wake = () => player.wake(player.context?.sampleRate || props.rate);
for (const gesture of ["pointerdown", "keydown"]) document.addEventListener(gesture, wake, { once: true });

button.addEventListener("click", () => {
  wake();
  if (mode === "hold") return;
  if (element.dataset.state === "idle") listen();
  else if (isAnswering()) {
    interrupt();
    microphone?.restart();
    rest();
  } else if (mode === "free" || (microphone.begins === null && microphone.seconds < 1)) {
    if (sentSpeech !== null) withdraw();
    end();
  } else finish();
});

const HOLDS = 300; // milliseconds: a shorter press is a tap, which only stops a reply
let pressedAt = null;
function press(event) {
  if (mode !== "hold" || pressedAt !== null || (event.type === "keydown" && ![" ", "Enter"].includes(event.key))) return;
  event.preventDefault();
  wake();
  pressedAt = performance.now();
  if (isAnswering()) interrupt();
  listen();
}
function release() {
  if (pressedAt === null) return;
  const isTap = performance.now() - pressedAt < HOLDS;
  pressedAt = null;
  if (!microphone) return;
  if (isTap || !microphone.numFrames) end();
  else finish();
}
button.addEventListener("pointerdown", (event) => {
  if (mode === "hold") button.setPointerCapture?.(event.pointerId);
  press(event);
});
button.addEventListener("keydown", press);
for (const event of ["pointerup", "pointercancel", "keyup", "blur"]) button.addEventListener(event, release);
button.addEventListener("contextmenu", (event) => mode === "hold" && event.preventDefault());

for (const choice of element.querySelectorAll("[name=voice-mode]"))
  choice.addEventListener("change", () => {
    if (sentSpeech !== null) withdraw();
    end();
    mode = choice.value;
    show(element.dataset.state);
  });

watch("value", () => {
  if (!props.value) return;
  const { reply } = props.value;
  const isOwn = reply === asked?.name || dropped.has(player.reply);
  if (reply !== player.reply && !isOwn) {
    // Another question was asked, or all was cleared: stop listening. Updates of the same reply leave the microphone open.
    asked = null;
    player.isHeld = false;
    end();
  }
  if (isAwaited() && reply !== asked.name && props.value.refused !== refused) {
    asked = sentSpeech = null;
    player.isHeld = false;
    if (mode === "free") microphone?.restart();
    else end();
    rest();
  }
  refused = props.value.refused;
  player.take(props.value);
});
show("idle");
