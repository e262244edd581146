// Runs detector.js over waveforms at 16 kHz, in pieces as a microphone gives them: reads a list of lists from standard input,
// writes the last answer for each, or the first one that says that the turn is over.
import { readFileSync } from "node:fs";
import { detectTurn } from "../../../spaces_demo/web/static/detector.js";

const PIECE = 6 * 512;
const answers = JSON.parse(readFileSync(0, "utf-8")).map((waveform) => {
  const samples = Float32Array.from(waveform);
  let answer = { memory: null };
  for (let at = 0; at + PIECE <= samples.length && !answer.is_over; at += PIECE)
    answer = detectTurn({ samples: samples.subarray(at, at + PIECE), memory: answer.memory });
  return answer;
});
process.stdout.write(JSON.stringify(answers));
