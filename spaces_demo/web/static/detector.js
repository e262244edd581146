// When a speaker's turn begins and ends, by the energy of the audio: what `Microphone` of microphone.js asks for.
//
// A window is speech where it is louder than the background by a margin. The background is the quietest window so far,
// which rises slowly, so that a fan that starts to blow is no speech for long.

const WINDOW = 512; // samples at 16 kHz: 32 ms
const BEGINS = 10, GOES_ON = 6; // dB above the background; two thresholds, so that a soft syllable does not end a word
const QUIETEST = -55; // dB of full scale; what is softer is never speech
const RISE = 0.03; // dB per window, of the background
const BEGIN_WINDOWS = 4; // 0.13 s of speech begin a turn: a click does not
const END_WINDOWS = 28; // 0.9 s of silence end it
const INITIAL = { num_windows: 0, background: 0, speech_run: 0, silence_run: 0, begin: null, num_speech: 0 };

// Takes {samples, memory}: audio at 16 kHz (Float32Array, whole windows) and the memory of the answer before, or null.
// Returns {memory, begins, speech, silence, is_over}, in seconds of the audio so far.
export function detectTurn({ samples, memory }) {
  let state = memory ?? INITIAL;
  for (let at = 0; at + WINDOW <= samples.length; at += WINDOW) state = after(state, samples.subarray(at, at + WINDOW));
  const seconds = (windows) => (windows * WINDOW) / 16000;
  return {
    memory: state,
    begins: state.begin === null ? null : seconds(state.begin),
    speech: seconds(state.num_speech),
    silence: seconds(state.silence_run),
    is_over: state.begin !== null && state.silence_run >= END_WINDOWS,
  };
}

function after(state, window) {
  const power = window.reduce((sum, x) => sum + x * x, 0) / window.length;
  const level = Math.max(-100, 10 * Math.log10(power + 1e-12));
  const background = Math.min(level, state.background + RISE);
  const isLouderBy = (margin) => level > Math.max(QUIETEST, background + margin);
  const num_windows = state.num_windows + 1;
  const speech_run = isLouderBy(BEGINS) ? state.speech_run + 1 : 0;
  const silence_run = isLouderBy(GOES_ON) ? 0 : state.silence_run + 1;
  let { begin, num_speech } = state;
  if (begin !== null) num_speech += silence_run === 0;
  else if (speech_run === BEGIN_WINDOWS) [begin, num_speech] = [num_windows - BEGIN_WINDOWS, BEGIN_WINDOWS];
  return { num_windows, background, speech_run, silence_run, begin, num_speech };
}
