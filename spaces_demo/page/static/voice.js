// The voice of the page: a microphone that detects the end of a turn, and a player that plays a reply while it is
// generated.
//
// Runs as `js_on_load` of a gr.HTML with `element`, `props`, `trigger`, `server` and `watch` from Gradio. Python sends
// `props.value`: {reply, rate, chunks, done}, and another `refused` each time that a question was refused. It is a
// state and not an event: a reply's chunks only ever grow, so it does no harm when the page draws several updates as
// one. Gradio sends only what is new.

const DETECTOR_RATE = 16000; // Hz, of the turn detector
const WINDOW = 512; // samples that it classifies at once
const WINDOWS_PER_CALL = 6; // 0.19 s
// Seconds around the speech: nano misunderstands speech with more silence around it than it was trained with.
const KEPT_BEFORE = 0.15, KEPT_AFTER = 0.1;
const PATIENCE = 8; // seconds until the speaker should have begun
const LEAD = 0.04; // seconds from the first chunk to its playback
const START = 0.01; // seconds that starting a chunk may take: one that had to begin sooner would overlap with the next

const button = element.querySelector(".voice-button");
const hint = element.querySelector(".voice-hint");
const HINTS = {
  idle: "Tap to talk",
  listening: "Listening. Pause, and it is sent",
  thinking: "Thinking. Tap to stop",
  speaking: "Speaking. Tap to stop",
};

function show(state, sentence) {
  element.dataset.state = state;
  button.setAttribute("aria-label", HINTS[state]);
  button.setAttribute("aria-pressed", String(state === "listening"));
  hint.textContent = sentence || HINTS[state];
}

const toBase64 = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};
const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const toPcm16 = (samples) => Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32767))));

// ------------------------------------------------------------------------------------------------------------------
// player Every chunk is a buffer at the context's own rate that begins at a whole sample, where the one before ends:
// nothing is encoded, resampled or faded on the way, so nothing can click, be lost or be played twice.

// The time of a frame, in seconds. Many quotients fall just below their frame, and a buffer that begins there is
// interpolated between its samples.
const timeOf = (frame, rate) => (frame / rate) * ((frame / rate) * rate < frame ? 1 + Number.EPSILON : 1);

class Player {
  constructor() {
    this.context = null;
    this.reply = null; // name of the reply that is played, or was
    this.gaps = 0;
  }

  wake(rate) {
    if (!this.context || (rate && this.context.sampleRate !== rate)) {
      this.context?.close();
      this.context = new AudioContext(rate ? { sampleRate: rate } : {});
    }
    if (this.context.state === "suspended") this.context.resume();
  }

  take(value) {
    if (value.reply !== this.reply) {
      this.silence();
      this.reply = value.reply;
      this.taken = 0;
      this.nextFrame = this.firstFrame = null;
      this.gaps = 0;
      this.isStopped = false;
    }
    if (this.isStopped) return;
    if (value.chunks.length > this.taken) this.wake(value.rate);
    for (; this.taken < value.chunks.length; this.taken++) this.append(value.chunks[this.taken]);
    this.isWhole = value.done;
    this.settle();
  }

  append(chunk) {
    const pcm = new Int16Array(fromBase64(chunk).buffer);
    if (!pcm.length) return;
    const { sampleRate, currentTime, destination } = this.context;
    const buffer = this.context.createBuffer(1, pcm.length, sampleRate);
    buffer.copyToChannel(Float32Array.from(pcm, (x) => x / 32768), 0);
    const soonest = Math.ceil((currentTime + LEAD) * sampleRate);
    if (this.nextFrame === null) this.firstFrame = this.nextFrame = soonest;
    else if (this.nextFrame < Math.ceil((currentTime + START) * sampleRate)) {
      // The model is slower than speech: silence, and then the rest of the audio whole.
      this.gaps += 1;
      this.firstFrame += soonest - this.nextFrame;
      this.nextFrame = soonest;
    }
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(destination);
    source.start(timeOf(this.nextFrame, sampleRate));
    this.nextFrame += pcm.length;
    this.sources.add(source);
    source.onended = () => {
      this.sources.delete(source);
      this.settle();
    };
  }

  get seconds() {
    return this.sources.size ? this.context.currentTime - this.firstFrame / this.context.sampleRate : null;
  }

  silence() {
    for (const source of this.sources || []) {
      source.onended = null;
      source.stop();
    }
    this.sources = new Set();
  }

  stop() {
    this.silence();
    this.isStopped = true;
    this.settle();
  }

  settle() {
    element.dataset.gaps = this.gaps;
    if (element.dataset.state === "listening") return;
    if (this.sources.size) show("speaking");
    else show(this.isStopped || this.isWhole ? "idle" : "thinking");
    if (this.sources.size && !this.isFollowing) this.follow();
  }

  follow() {
    // Highlights the pictures of what is being played.
    const seconds = this.seconds;
    this.isFollowing = seconds !== null;
    for (const part of document.querySelectorAll("[data-begins]")) {
      const begins = Number(part.dataset.begins);
      const ends = begins + Number(part.dataset.seconds);
      part.classList.toggle("is-playing", seconds !== null && begins <= seconds && seconds < ends);
    }
    if (this.isFollowing) requestAnimationFrame(() => this.follow());
  }
}

const player = new Player();
player.sources = new Set();

// --------------------------------------------------------------------------------------------------------------
// microphone Sends the detector a copy at a lower rate while it records, keeps the recording as it is, and sends that
// when the turn is over.

const CAPTURE = `registerProcessor("capture", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(2048); this.filled = 0; }
  process([[channel]]) {
    if (channel) {
      this.block.set(channel, this.filled);
      this.filled += channel.length;
      if (this.filled === this.block.length) { this.port.postMessage(this.block.slice()); this.filled = 0; }
    }
    return true;
  }
});`;

class Microphone {
  async open() {
    this.blocks = [];
    this.coarse = [];
    this.numFrames = this.sum = this.count = this.phase = 0;
    this.memory = null;
    this.begins = null;
    this.isAsking = false;
    this.isOpen = true;
    // Unprocessed audio: the codec was not trained on audio as in calls, and there is no echo, since nothing is played
    // while it listens.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    this.context = new AudioContext();
    const url = URL.createObjectURL(new Blob([CAPTURE], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(url);
    URL.revokeObjectURL(url);
    const capture = new AudioWorkletNode(this.context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    capture.port.onmessage = (message) => this.take(message.data);
    this.context.createMediaStreamSource(this.stream).connect(capture);
    if (!this.isOpen) this.close(); // closed while the browser asked for permission
  }

  close() {
    this.isOpen = false;
    for (const track of this.stream?.getTracks() || []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
  }

  get seconds() {
    return this.context ? this.numFrames / this.context.sampleRate : 0;
  }

  take(block) {
    if (!this.isOpen) return;
    const loudness = Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / block.length);
    element.style.setProperty("--loudness", Math.min(1, loudness * 6).toFixed(3));
    this.blocks.push(block);
    this.coarsen(block);
    this.numFrames += block.length;
    if (this.seconds > props.max_seconds) this.finish();
    else if (this.begins === null && this.seconds > PATIENCE) this.giveUp("I heard nobody speak. Tap to try again");
    else if (!this.isAsking && this.coarse.length >= WINDOWS_PER_CALL * WINDOW) this.ask();
  }

  coarsen(block) {
    // The mean of each sixteenth of a millisecond: good enough to detect speech.
    for (const x of block) {
      this.sum += x;
      this.count += 1;
      this.phase += DETECTOR_RATE / this.context.sampleRate;
      if (this.phase < 1) continue;
      this.coarse.push(this.sum / this.count);
      this.sum = this.count = 0;
      this.phase -= 1;
    }
  }

  async ask() {
    this.isAsking = true;
    const length = Math.min(Math.floor(this.coarse.length / WINDOW), 96) * WINDOW;
    const sound = toBase64(new Uint8Array(toPcm16(this.coarse.splice(0, length)).buffer));
    try {
      const answer = await server.answer_microphone({ sound, memory: this.memory });
      if (!this.isOpen) return;
      this.memory = answer.memory;
      this.begins = answer.begins;
      if (answer.is_over) this.finish(true);
    } catch (error) {
      this.giveUp("The server cannot be reached. Try again, or write");
    } finally {
      this.isAsking = false;
    }
  }

  finish(isOver = false) {
    if (!this.isOpen) return;
    const rate = this.context.sampleRate;
    this.close();
    // Silence around the speech is cut; audio after the detector's last answer is kept, unless the turn was over by
    // then.
    const { num_windows, silence_run } = this.memory ?? { num_windows: 0, silence_run: 0 };
    const ends = isOver ? ((num_windows - silence_run) * WINDOW) / DETECTOR_RATE + KEPT_AFTER : this.seconds;
    const from = Math.max(0, Math.round(((this.begins ?? 0) - KEPT_BEFORE) * rate));
    // The last block may end after the longest question that the service accepts.
    const to = Math.min(this.numFrames, Math.round(ends * rate), from + Math.floor(props.max_seconds * rate));
    show("thinking");
    trigger("asked", { sound: toBase64(wav(this.blocks, from, to, rate)) });
  }

  giveUp(sentence) {
    this.close();
    show("idle", sentence);
  }
}

function wav(blocks, from, to, rate) {
  const samples = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  blocks.reduce((at, block) => (samples.set(block, at), at + block.length), 0);
  const pcm = new Uint8Array(toPcm16(samples.subarray(from, to)).buffer);
  const bytes = new Uint8Array(44 + pcm.length);
  const view = new DataView(bytes.buffer);
  const word = (at, text) => [...text].forEach((character, i) => view.setUint8(at + i, character.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + pcm.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // length of what follows
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); // bits
  word(36, "data");
  view.setUint32(40, pcm.length, true);
  bytes.set(pcm, 44);
  return bytes;
}

// ---------------------------------------------------------------------------------------------------------------- the
// button

let microphone = new Microphone();

const REFUSALS = {
  NotAllowedError: "The browser may not use the microphone. Allow it beside the address, or write",
  NotFoundError: "There is no microphone. Upload audio, or write",
};

async function listen() {
  if (!navigator.mediaDevices) return show("idle", "Microphones need https or localhost. Upload audio, or write");
  show("listening");
  microphone = new Microphone();
  try {
    await microphone.open();
  } catch (error) {
    microphone.giveUp(REFUSALS[error.name] || "The microphone could not be opened. Upload audio, or write");
  }
}

button.addEventListener("click", () => {
  player.wake(player.context?.sampleRate || props.rate); // browsers let a page play audio only after a tap
  const state = element.dataset.state;
  if (state === "idle") listen();
  else if (state === "listening" && microphone.begins === null && microphone.seconds < 1) microphone.giveUp();
  else if (state === "listening") microphone.finish();
  else {
    player.stop();
    trigger("stopped", {});
  }
});
for (const gesture of ["pointerdown", "keydown"])
  document.addEventListener(gesture, () => player.wake(player.context?.sampleRate || props.rate), { once: true });

watch("value", () => {
  if (!props.value) return;
  if (props.value.reply !== player.reply) {
    // Another question was asked, or all was cleared: stop listening. Updates of the same reply leave the microphone
    // open.
    microphone.close();
    if (element.dataset.state === "listening") show("idle");
  }
  player.take(props.value);
});
show("idle");
