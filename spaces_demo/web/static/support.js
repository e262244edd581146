// What a browser lacks, in one sentence each.

// A WebAssembly module whose one function uses an instruction on vectors (SIMD).
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

const CURRENT = "Use a current Chrome, Edge, Firefox or Safari.";

// Why the model cannot run here, or null.
export function modelIsMissing() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(Uint8Array.from(SIMD)))
    return `This browser has no WebAssembly SIMD, which the model needs. ${CURRENT}`;
  if (typeof DecompressionStream !== "function")
    return `This browser cannot decompress the model. ${CURRENT}`;
  if (location.protocol === "file:")
    return "Browsers read a model from a web server alone: python -m http.server in this folder serves it.";
  return null;
}

// Why nobody can talk here, or null; writing works.
export function microphoneIsMissing() {
  if (!window.isSecureContext) return "Microphones need https or localhost. Write instead";
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode)
    return "This browser gives no access to a microphone. Write instead";
  return null;
}

const REFUSALS = {
  NotAllowedError: "The browser may not use the microphone. Allow it beside the address, or write",
  NotFoundError: "There is no microphone. Write instead",
};
export const refusal = (error) => REFUSALS[error.name] ?? "The microphone could not be opened. Write instead";
