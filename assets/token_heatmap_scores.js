// Numbers only: from the (response, prompt) score matrix to the answers a person asks for. No DOM in this file.
//
// A target is a span of response tokens, a source a span of prompt tokens. The score of a source for a target is
// the sum over the source's tokens of the mean over the target's tokens; its share is that score over the sum of
// the absolute scores of all sources, so that shares of different targets can be compared.

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const binary = atob(base64), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
const float32 = (base64) => new Float32Array(bytesOf(base64).buffer);
const int32 = (base64) => new Int32Array(bytesOf(base64).buffer);

// Two matrices side by side: (rows, width) and (rows, more) to (rows, width + more).
function beside(left, width, right, more) {
  const rows = more ? right.length / more : 0, out = new Float32Array(rows * (width + more));
  for (let r = 0; r < rows; r++) {
    out.set(left.subarray(r * width, (r + 1) * width), r * (width + more));
    out.set(right.subarray(r * more, (r + 1) * more), r * (width + more) + width);
  }
  return out;
}

// Mean over the response rows of runs [first, last] (inclusive) of the (response, width) matrix, into out (width).
function meanOfRows(scores, width, runs, out) {
  let rows = 0;
  out.fill(0);
  for (const [first, last] of runs)
    for (let row = first; row <= last; row++, rows++)
      for (let c = 0, at = row * width; c < width; c++) out[c] += scores[at + c];
  for (let c = 0; c < width; c++) out[c] /= rows || 1;
  return out;
}

// Sum of each source's tokens, (sources).
function sourceSums(sources, perToken) {
  const out = new Float64Array(sources.length);
  for (let s = 0; s < sources.length; s++) {
    let sum = 0;
    for (let c = sources[s].tokenStart; c < sources[s].tokenEnd; c++) sum += perToken[c];
    out[s] = sum;
  }
  return out;
}

// For every response token the score of prompt tokens first..last (inclusive), (response).
function scoreOfSpan(scores, width, first, last) {
  const rows = width ? scores.length / width : 0, out = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let c = first, at = r * width; c <= last; c++) sum += scores[at + c];
    out[r] = sum;
  }
  return out;
}

const sumOfAbs = (values) => values.reduce((sum, v) => sum + Math.abs(v), 0);
const shown = (value, signed) => (signed ? value : Math.max(0, value)); // what the Scores switch leaves of a score

// The indices of the k largest |values| above zero, largest first. One pass: k is small, values may be 8,000.
function largest(values, k) {
  const best = [];
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i]);
    if (!size || (best.length === k && size <= Math.abs(values[best[k - 1]]))) continue;
    let at = Math.min(best.length, k - 1);
    for (; at > 0 && Math.abs(values[best[at - 1]]) < size; at--) best[at] = best[at - 1];
    best[at] = i;
  }
  return best;
}
function rankOf(values, index) {
  const size = Math.abs(values[index]);
  let rank = 1;
  for (const v of values) if (Math.abs(v) > size) rank++;
  return rank;
}

// Which sources a response sentence cites. An even split would give every source 1 / count; a cited source has at
// least twice that (where there are few, half the way from even to all), at least half of what the sentence's
// strongest source has, and at most three are cited.
const CITED_AT_MOST = 3;
const citedFrom = (count) => Math.min(2 / count, (1 + 1 / count) / 2);
function citedSources(values) {
  const total = sumOfAbs(values), least = citedFrom(values.length);
  if (!total || values.length < 2) return [];
  const top = largest(values.map((v) => Math.max(0, v)), CITED_AT_MOST);
  return top.filter((s) => values[s] / total >= least && values[s] >= values[top[0]] / 2);
}

// Three digits that count, whatever the size: a score must never read 0.000.
function digits(value) {
  const size = Math.abs(value), sign = value < 0 ? "−" : "";
  if (!size) return "0";
  if (size >= 1e-4 && size < 1e5) return sign + size.toPrecision(3);
  const [mantissa, exponent] = size.toExponential(2).split("e");
  return `${sign}${mantissa}e${exponent.replace("-", "−").replace("+", "")}`;
}
function percent(share) {
  const size = Math.abs(share) * 100, sign = share < 0 ? "−" : "";
  if (!size) return "0 %";
  if (size < 0.001) return `${sign}<0.001 %`;
  return `${sign}${size >= 99.95 ? "100" : size >= 10 ? size.toFixed(1) : size.toPrecision(2)} %`;
}
