// Records, and has the server detect speech meanwhile: it gets a copy at a lower rate, and the recording stays as it is.
//
// Seconds count from the beginning of a turn: from when the microphone was opened, or from the last `restart`.

const DETECTOR_RATE = 16000; // Hz, of the turn detector
const WINDOW = 512; // samples that it classifies at once
const WINDOWS_PER_CALL = 6; // 0.19 s
// Seconds around the speech: nano misunderstands speech with more silence around it than it was trained with.
const KEPT_BEFORE = 0.15, KEPT_AFTER = 0.1;

const toBase64 = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};
const toPcm16 = (samples) => Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32767))));

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
  // `detect(message)` answers as `answer_microphone` does. Calls `updated()` after each answer, `recorded(loudness)` after
  // each block of audio, and `failed(error)` when the detector cannot be reached.
  constructor(detect, updated = () => {}, recorded = () => {}, failed = () => {}) {
    Object.assign(this, { detect, updated, recorded, failed });
    Object.assign(this, { blocks: [], coarse: [], sent: [], firstFrame: 0, numFrames: 0, sum: 0, count: 0, phase: 0 });
    this.isOpen = this.isAsking = false;
    this.detected = null;
    this.turn = 0;
    this.kept = Infinity; // seconds of audio that are kept in memory before the user speaks
  }

  // Without echo cancellation audio comes unprocessed, as the codec was trained on it.
  async open(cancelsEcho) {
    this.isOpen = true;
    const audio = { channelCount: 1, echoCancellation: cancelsEcho, noiseSuppression: false, autoGainControl: false };
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

  // Begins another turn with the audio that the detector has not answered yet.
  restart() {
    this.coarse = [...this.sent.splice(0), ...this.coarse];
    const kept = Math.round((this.coarse.length / DETECTOR_RATE) * this.context.sampleRate);
    this.firstFrame -= this.numFrames - kept;
    this.numFrames = kept;
    this.detected = null;
    this.turn += 1;
    this.forget();
  }

  get seconds() {
    return this.context ? this.numFrames / this.context.sampleRate : 0;
  }

  // Where the speech of this turn begins, in seconds; null before it does.
  get begins() {
    return this.detected?.begins ?? null;
  }

  // Where the last speech ended, and how much there was, in seconds of detected audio.
  get ends() {
    return this.detected ? (this.detected.memory.num_windows * WINDOW) / DETECTOR_RATE - this.detected.silence : this.seconds;
  }
  get speech() {
    return this.detected?.speech ?? 0;
  }

  // The time of a place of this turn, in the milliseconds of `performance.now`.
  timeOf(seconds) {
    return performance.now() - 1000 * (this.seconds - seconds);
  }

  take(block) {
    if (!this.isOpen) return;
    this.blocks.push(block);
    this.coarsen(block);
    this.numFrames += block.length;
    this.recorded(Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / block.length));
    if (this.isOpen && !this.isAsking && this.coarse.length >= WINDOWS_PER_CALL * WINDOW) this.ask();
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
    const { turn } = this;
    this.sent = this.coarse.splice(0, Math.min(Math.floor(this.coarse.length / WINDOW), 96) * WINDOW);
    const audio = toBase64(new Uint8Array(toPcm16(this.sent).buffer));
    try {
      const answer = await this.detect({ audio, memory: this.detected?.memory ?? null });
      if (!this.isOpen || turn !== this.turn) return;
      this.sent = [];
      this.detected = answer;
      if (this.begins === null) this.forget();
      this.updated();
    } catch (error) {
      if (this.isOpen) this.failed(error);
    } finally {
      this.isAsking = false;
    }
  }

  // Drops audio from before the speech that can no longer be part of it.
  forget() {
    const { sampleRate } = this.context;
    const seconds = ((this.detected?.memory.num_windows ?? 0) * WINDOW) / DETECTOR_RATE;
    const needed = (seconds - this.kept) * sampleRate;
    while (this.blocks.length && this.firstFrame + this.blocks[0].length <= needed)
      this.firstFrame += this.blocks.shift().length;
  }

  // The speech of this turn as a wav file in base64, with a little silence around it; without an end, up to now.
  cut(ends, maxSeconds) {
    const rate = this.context.sampleRate;
    const from = Math.max(this.firstFrame, Math.round(((this.begins ?? 0) - KEPT_BEFORE) * rate));
    // The last block may end after the longest question that the service accepts.
    const end = ends === undefined ? this.numFrames : Math.round((ends + KEPT_AFTER) * rate);
    const to = Math.min(this.numFrames, end, from + Math.floor(maxSeconds * rate));
    return toBase64(wav(this.blocks, from - this.firstFrame, to - this.firstFrame, rate));
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
