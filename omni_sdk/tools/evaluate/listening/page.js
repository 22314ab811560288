"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const isAbx = data.kind === "abx";
const store = "omni-listening-test " + data.test;
const $ = (id) => document.getElementById(id);
const QUALITY = ["Bad", "Poor", "Fair", "Good", "Excellent"];

/** Answers so far. Kept in the browser after each one, so that a closed page goes on where it was. */
let run = restore() || fresh();
/** The trial on screen: its clips by label, what was heard of each, when it began. */
let now = null;
let audio = null;
let playing = null;

function fresh() {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  return { format: data.format, test: data.test, kind: data.kind, rater: "", seed, started: null, answers: [] };
}

function restore() {
  try {
    const saved = JSON.parse(localStorage.getItem(store));
    return saved && saved.test === data.test ? saved : null;
  } catch {
    return null;
  }
}

function remember() {
  try {
    localStorage.setItem(store, JSON.stringify(run));
  } catch {
    // A browser that keeps nothing for local files: the test still works, in one sitting.
  }
}

/** Mulberry32: this rater's order and sides follow from one seed, also after the page was closed. */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(items, random) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Trials in this rater's order; of a pair, also which clip is A and which of both is X. */
function schedule() {
  const random = randomFrom(run.seed);
  return shuffled(data.trials, random).map((trial) => {
    const sides = shuffled(trial.clips, random);
    return { trial: trial.trial, sides, x: sides[Math.floor(random() * sides.length)] };
  });
}

function show(section) {
  for (const id of ["welcome", "trial", "done"]) $(id).hidden = id !== section;
  $(section).querySelector("h1").focus();
}

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function welcome() {
  $("task").textContent = isAbx
    ? "In each trial you hear A, B and X. X is the same as either A or B. Say which. Guess if you cannot tell."
    : "In each trial you hear one clip. Rate its quality from 1 (bad) to 5 (excellent). There is no right answer.";
  const keys = isAbx
    ? [["A B X", "play that clip"], ["1 2", "X is A, X is B"], ["Enter", "next"]]
    : [["Space", "play or stop"], ["1 to 5", "rate"], ["Enter", "next"]];
  for (const [key, meaning] of keys) {
    const term = element("dt");
    term.append(...key.split(" ").map((part) => (part === "to" ? " to " : element("kbd", part))));
    $("keys").append(term, element("dd", meaning));
  }
  $("rater").value = run.rater;
  if (run.answers.length) $("begin").textContent = "Continue";
  count();
}

function count() {
  const done = run.answers.length;
  $("progress").value = done / data.trials.length;
  $("count").textContent = done < data.trials.length ? `Trial ${done + 1} of ${data.trials.length}` : "Complete";
}

function begin() {
  audio = audio || new AudioContext();
  audio.resume();
  run.rater = $("rater").value.trim() || run.rater || "anonymous " + run.seed.toString(16);
  run.started = run.started || new Date().toISOString();
  remember();
  ask();
}

async function ask() {
  count();
  const next = schedule()[run.answers.length];
  if (!next) return finish();
  const tokens = isAbx ? { A: next.sides[0], B: next.sides[1], X: next.x } : { Clip: next.sides[0] };
  now = { next, tokens, buffers: {}, heard: new Set(), plays: 0, began: performance.now(), choice: null };
  $("question").textContent = isAbx ? "Is X the same as A or as B?" : "How good does this sound?";
  $("legend").textContent = isAbx ? "X is" : "Quality";
  $("answers").disabled = $("next").disabled = true;
  $("players").replaceChildren(...Object.keys(tokens).map(player));
  const choices = isAbx ? [["A", "A"], ["B", "B"]] : QUALITY.map((name, i) => [String(i + 1), name]).reverse();
  $("choices").replaceChildren(...choices.map(([value, name], i) => choice(value, name, isAbx ? String(i + 1) : value)));
  $("state").textContent = isAbx ? "Hear all three to their ends, then answer." : "Hear the clip to its end, then rate it.";
  show("trial");
  const current = now;
  try {
    for (const [label, token] of Object.entries(tokens)) {
      current.buffers[label] = await audio.decodeAudioData(bytes(data.clips[token]));
    }
  } catch (error) {
    $("state").textContent = `This browser cannot play a clip (${error.message}). Please try another browser.`;
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).buffer;
}

function player(label) {
  const button = element("button", "", "player");
  const title = element("strong", isAbx ? label : "Play");
  title.append(element("kbd", isAbx ? label : "Space"));
  const bar = element("span", "", "bar");
  bar.append(element("span"));
  button.append(title, bar, element("small", "not heard yet"));
  button.dataset.label = label;
  button.setAttribute("aria-label", isAbx ? `Play ${label}` : "Play the clip");
  button.addEventListener("click", () => toggle(label));
  return button;
}

function choice(value, name, key) {
  const label = element("label");
  const input = element("input");
  Object.assign(input, { type: "radio", name: "answer", value });
  input.addEventListener("change", () => choose(value));
  label.append(input, element("span", isAbx ? name : `${value}  ${name}`), element("kbd", key));
  return label;
}

function toggle(label) {
  const was = playing && playing.label;
  stop();
  if (was !== label) play(label);
}

function play(label) {
  const buffer = now.buffers[label];
  if (!buffer) return;
  audio.resume();
  const source = new AudioBufferSourceNode(audio, { buffer });
  source.connect(audio.destination);
  playing = { label, source, began: audio.currentTime, buffer };
  now.plays += 1;
  source.onended = () => heard(source);
  source.start();
  card(label).classList.add("playing");
  $("state").textContent = isAbx ? `Playing ${label}` : "Playing";
  requestAnimationFrame(draw);
}

function stop() {
  if (!playing) return;
  const { source, label } = playing;
  playing = null;
  source.onended = null;
  source.stop();
  card(label).classList.remove("playing");
  card(label).querySelector(".bar span").style.width = "0";
  $("state").textContent = "Stopped";
}

function heard(source) {
  if (!playing || playing.source !== source) return;
  const { label } = playing;
  playing = null;
  now.heard.add(label);
  card(label).classList.remove("playing");
  card(label).querySelector(".bar span").style.width = "100%";
  card(label).querySelector("small").textContent = "heard";
  const missing = Object.keys(now.tokens).filter((name) => !now.heard.has(name));
  $("answers").disabled = missing.length > 0;
  $("state").textContent = missing.length ? `Still to hear: ${missing.join(", ")}` : "Heard. Your answer?";
}

function draw() {
  if (!playing) return;
  const share = (audio.currentTime - playing.began) / playing.buffer.duration;
  card(playing.label).querySelector(".bar span").style.width = `${Math.min(100, 100 * share)}%`;
  requestAnimationFrame(draw);
}

function card(label) {
  return $("players").querySelector(`[data-label="${label}"]`);
}

function choose(value) {
  if ($("answers").disabled) return;
  now.choice = value;
  $("choices").querySelector(`input[value="${value}"]`).checked = true;
  $("next").disabled = false;
}

function next() {
  if (now === null || now.choice === null) return;
  stop();
  const { next: trial, tokens, choice: value, plays, began } = now;
  const common = { trial: trial.trial, plays, seconds: (performance.now() - began) / 1000 };
  run.answers.push(
    isAbx
      ? { ...common, a: tokens.A, b: tokens.B, x: tokens.X, answer: tokens[value] }
      : { ...common, clip: tokens.Clip, rating: Number(value) },
  );
  now = null;
  remember();
  ask();
}

function finish() {
  run.finished = run.finished || new Date().toISOString();
  remember();
  $("result").value = JSON.stringify(run);
  show("done");
}

function save() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(run, null, 1)], { type: "application/json" }));
  const link = element("a");
  link.href = url;
  link.download = `answers-${run.rater.replace(/[^\p{L}\p{N}]+/gu, "-")}-${data.test.slice(0, 6)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function again() {
  run = fresh();
  remember();
  location.reload();
}

function onKey(event) {
  if ($("trial").hidden || !now || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  // A button that has the focus answers to these two by itself.
  if (event.target.tagName === "BUTTON" && (key === " " || key === "enter")) return;
  const answer = isAbx ? { 1: "A", 2: "B" }[key] : /^[1-5]$/.test(key) && key;
  if (isAbx && "abx".includes(key)) toggle(key.toUpperCase());
  else if (!isAbx && key === " ") toggle("Clip");
  else if (answer) choose(answer);
  else if (key === "enter") next();
  else return;
  event.preventDefault();
}

$("begin").addEventListener("click", begin);
$("rater").addEventListener("keydown", (event) => event.key === "Enter" && begin());
$("next").addEventListener("click", next);
$("save").addEventListener("click", save);
$("again").addEventListener("click", again);
document.addEventListener("keydown", onKey);
welcome();
