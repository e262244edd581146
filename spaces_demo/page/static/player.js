// Plays a reply while it is generated.
//
// Every chunk is a buffer at the context's own rate that begins at a whole sample, where the one before ends: nothing is
// encoded, resampled or faded on the way, so nothing can click, be lost or be played twice.

const LEAD = 0.04; // seconds from the first chunk to its playback
const START = 0.01; // seconds that starting a chunk may take: one that had to begin sooner would overlap with the next

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

// The time of a frame, in seconds. Many quotients fall just below their frame, and a buffer that begins there is
// interpolated between its samples.
const timeOf = (frame, rate) => (frame / rate) * ((frame / rate) * rate < frame ? 1 + Number.EPSILON : 1);

// When the audio of a picture or a word begins and ends, in seconds; messages keep no attributes but classes.
function timesOf({ className, dataset: { begins, seconds } }) {
  if (begins) return [Number(begins), Number(begins) + Number(seconds)];
  return (/at-(\d+)-(\d+)/.exec(className) ?? [0, 0, 0]).slice(1).map((milliseconds) => milliseconds / 1000);
}

class Player {
  // Calls `changed()` when it begins or ends to play, and `begun(reply, when)` with the time of the first audio of a
  // reply, in the milliseconds of `performance.now`.
  constructor(changed = () => {}, begun = () => {}) {
    Object.assign(this, { changed, begun, context: null, sources: new Set(), gaps: 0, playedBefore: 0 });
    this.speed = 1; // so many seconds of the reply pass in a second
    this.reply = null; // name of the reply that is played, or was
    this.known = new Set(); // names of all that were
    this.isHeld = false; // whether to wait until the question is certainly over
    this.firstFrame = this.nextFrame = null;
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
      this.speed = value.speed;
      this.taken = 0;
      this.nextFrame = this.firstFrame = null;
      this.gaps = this.playedBefore = 0;
      this.isStopped = this.known.has(value.reply); // a later turn was taken back: this one was played before
      this.known.add(value.reply);
    }
    this.isWhole = value.done;
    if (this.isStopped || this.isHeld) return this.changed();
    if (value.chunks.length > this.taken) this.wake(value.rate);
    for (; this.taken < value.chunks.length; this.taken++) this.append(value.chunks[this.taken]);
    this.changed();
    this.follow();
  }

  append(chunk) {
    const pcm = new Int16Array(fromBase64(chunk).buffer);
    if (!pcm.length) return;
    const { sampleRate, currentTime, destination } = this.context;
    const buffer = this.context.createBuffer(1, pcm.length, sampleRate);
    buffer.copyToChannel(Float32Array.from(pcm, (x) => x / 32768), 0);
    const soonest = Math.ceil((currentTime + LEAD) * sampleRate);
    if (this.nextFrame === null) {
      this.firstFrame = this.nextFrame = soonest;
      const delay = soonest / sampleRate - currentTime + (this.context.outputLatency || 0);
      this.begun(this.reply, performance.now() + 1000 * delay);
    } else if (this.nextFrame < Math.ceil((currentTime + START) * sampleRate)) {
      // The model is slower than speech: silence, and then the rest of the audio whole.
      this.gaps += 1;
      this.playedBefore = this.seconds; // the chunk begins a moment later, until when nothing more is played
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
      this.changed();
    };
  }

  get isPlaying() {
    return this.sources.size > 0;
  }

  // How much of the reply was played, in seconds of its audio at speed 1.
  get seconds() {
    if (this.firstFrame === null) return 0;
    const { sampleRate, currentTime } = this.context;
    const played = Math.min(currentTime, this.nextFrame / sampleRate) - this.firstFrame / sampleRate;
    return Math.max(this.playedBefore, this.speed * played);
  }

  silence() {
    for (const source of this.sources) {
      source.onended = null;
      source.stop();
    }
    this.sources.clear();
  }

  // Stops; returns how much was played, in seconds.
  stop() {
    const { seconds } = this;
    this.silence();
    this.isStopped = true;
    this.changed();
    return seconds;
  }

  release(value) {
    this.isHeld = false;
    if (value) this.take(value);
  }

  // Highlights the words and pictures of what is being played.
  follow() {
    if (this.isFollowing) return;
    const mark = () => {
      this.isFollowing = this.isPlaying;
      for (const part of document.querySelectorAll("[data-begins], .word")) {
        const [begins, ends] = timesOf(part);
        part.classList.toggle("is-playing", this.isPlaying && begins <= this.seconds && this.seconds < ends);
      }
      if (this.isFollowing) requestAnimationFrame(mark);
    };
    mark();
  }
}
