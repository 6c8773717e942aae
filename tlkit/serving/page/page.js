"use strict";

const LONGEST = 1024; // pixels of an image as it is drawn
const FIRST = 5; // outputs that are shown at once
const TRIES = 8; // where the service says "later"

const part = (id) => document.getElementById(id);
const shown = []; // functions that draw an image anew
let about = null;

function made(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// The service

async function start() {
  about = await (await fetch("about")).json();
  document.title = `${about.name} · tlkit`;
  part("name").textContent = about.name;
  const names = about.outputs.slice(0, 12).join(", ") + (about.outputs.length > 12 ? ", ..." : "");
  part("what").textContent = `${about.task}: ${names}`;
  const { megabytes, megapixels } = about.limits;
  part("limits").textContent =
    `JPEG, PNG, WebP, GIF or BMP, up to ${megabytes} MB and ${megapixels} megapixels each. ` +
    "Images are answered by this service and kept nowhere.";
  const layer = layerName();
  part("layered").hidden = !layer;
  part("layer-name").textContent = layer;
  part("no-maps").textContent = layer ? "" : `No map: ${about.why_no_maps}.`;
}

function layerName() {
  if (about.maps) return "Show what speaks for the answer";
  if (about.masks) return "Show the classes over the image";
  return about.boxes ? "Show the boxes" : "";
}

async function ask(file) {
  const form = new FormData();
  form.append("image", file, file.name || "image");
  const extras = new URLSearchParams();
  if (about.maps) extras.set("maps", "true");
  if (about.masks) extras.set("masks", "true");
  for (let tried = 1; ; tried++) {
    const answer = await fetch(`predict?${extras}`, { method: "POST", body: form });
    const waits = answer.headers.get("retry-after");
    if (answer.status === 503 && waits && tried < TRIES) {
      await pause(Number(waits) * (1 + Math.random()));
      continue;
    }
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.predictions ? body.predictions[0].error : body.error);
    return body[0];
  }
}

// Images in, answers out

async function add(files) {
  const all = [...files];
  if (!all.length) return;
  say(all.length === 1 ? `${all[0].name}: asked` : `${all.length} images: asked`);
  let done = 0;
  const queue = all.slice();
  const work = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const words = await one(file);
      done += 1;
      say(all.length === 1 ? words : `${done} of ${all.length} answered. ${words}`);
    }
  };
  await Promise.all([work(), work(), work()]);
}

async function one(file) {
  const article = made("article", {}, made("h2", { textContent: file.name }), made("p", { textContent: "..." }));
  part("answers").prepend(article);
  part("clear").hidden = false;
  try {
    if (file.size > 1e6 * about.limits.megabytes) {
      throw new Error(`larger than ${about.limits.megabytes} MB`);
    }
    const [answer, image] = await Promise.all([ask(file), createImageBitmap(file).catch(() => null)]);
    const words = inWords(answer);
    article.replaceChildren(
      image ? drawing(image, answer, words) : made("p", { textContent: "This browser cannot show the image." }),
      made("div", {}, made("h2", { textContent: file.name }), made("p", { className: "answer", textContent: words }), ...lists(answer)),
    );
    return `${file.name}: ${words}`;
  } catch (error) {
    article.className = "bad";
    article.replaceChildren(made("h2", { textContent: file.name }), made("p", { textContent: error.message }));
    return `${file.name}: ${error.message}`;
  }
}

function say(text) {
  part("said").textContent = text;
}

// What is said of an answer

function inWords(answer) {
  if (answer.detections) return counted(answer.detections) || "nothing found";
  if (answer.labels) return answer.labels.join(", ") || "none of the labels";
  if (answer.label) return `${answer.label}, ${percent(answer.score)}`;
  if (answer.areas) return ranked(answer.areas).filter(([, share]) => share > 0.005).map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  return Object.entries(answer.values).map(([name, value]) => `${name} ${value.toPrecision(4)}`).join(", ");
}

function counted(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) || 0) + 1);
  return [...counts].map(([label, count]) => `${count} ${label}`).join(", ");
}

const ranked = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]);

function lists(answer) {
  if (answer.detections) return folded(answer.detections.map(({ label, score }) => row(label, percent(score), score, {})));
  const shares = answer.probabilities || answer.areas;
  if (!shares) {
    return [made("ol", {}, ...Object.entries(answer.values).map(([name, value]) => row(name, value.toPrecision(4), 0, {})))];
  }
  const given = answer.labels || (answer.label ? [answer.label] : []);
  const rows = ranked(shares).map(([name, share]) =>
    row(name, percent(share), share, { given: given.includes(name), colour: answer.areas ? colourOf(name) : "" }));
  const found = folded(rows);
  if (answer.map) found.push(made("p", { className: "small", textContent: `Map: red places speak most for ${answer.map.explained}.` }));
  return found;
}

function folded(rows) {
  const found = [made("ol", {}, ...rows.slice(0, FIRST))];
  if (rows.length > FIRST) {
    const rest = made("ol", {}, ...rows.slice(FIRST));
    found.push(made("details", {}, made("summary", { textContent: `${rows.length - FIRST} more` }), rest));
  }
  return found;
}

const colourOf = (name) => about.colours[about.outputs.indexOf(name)];

function row(name, value, share, { given, colour }) {
  const item = made("li", { className: given ? "given" : "" });
  if (share) {
    const bar = made("span", { className: "bar" });
    bar.style.width = percent(share);
    item.append(bar);
  }
  if (colour) {
    const swatch = made("span", { className: "swatch" });
    swatch.style.background = colour;
    item.append(swatch);
  }
  item.append(made("span", { className: "label", textContent: name }), made("span", { className: "value", textContent: value }));
  return item;
}

// What is drawn

function drawing(image, answer, words) {
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const canvas = made("canvas", { width: Math.round(image.width * scale), height: Math.round(image.height * scale) });
  canvas.setAttribute("role", "img");
  const box = answer.box ? ` Box from ${answer.box.slice(0, 2).map(Math.round).join(", ")} to ${answer.box.slice(2).map(Math.round).join(", ")}.` : "";
  canvas.setAttribute("aria-label", `The image, ${image.width} by ${image.height} pixels: ${words}.${box}`);
  const draw = async () => {
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    if (!part("layer").checked) return;
    if (answer.map) pen.drawImage(heat(answer.map.values), 0, 0, canvas.width, canvas.height);
    if (answer.mask) await drawMask(pen, canvas, answer.mask);
    for (const found of answer.detections || (answer.box ? [answer] : [])) drawBox(pen, found, scale);
  };
  shown.push(draw);
  draw();
  return canvas;
}

const STOPS = [[48, 18, 59], [70, 134, 251], [27, 229, 181], [164, 252, 60], [251, 185, 56], [227, 68, 10], [122, 4, 3]];

function heat(values) {
  const small = made("canvas", { width: values[0].length, height: values.length });
  const pen = small.getContext("2d");
  const pixels = pen.createImageData(small.width, small.height);
  values.flat().forEach((value, i) => {
    const place = Math.min(value, 0.9999) * (STOPS.length - 1);
    const [low, high] = [STOPS[Math.floor(place)], STOPS[Math.ceil(place)]];
    const mixed = low.map((level, c) => level + (high[c] - level) * (place % 1));
    pixels.data.set([...mixed, 255 * 0.65 * value], 4 * i);
  });
  pen.putImageData(pixels, 0, 0);
  return small;
}

async function drawMask(pen, canvas, encoded) {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const mask = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  pen.save();
  pen.globalAlpha = 0.5;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(mask, 0, 0, canvas.width, canvas.height);
  pen.restore();
}

function drawBox(pen, { box, label, score }, scale) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  const words = `${label} ${percent(score)}`;
  const size = Math.max(14, Math.round(pen.canvas.width / 40));
  pen.lineWidth = Math.max(3, size / 5);
  pen.strokeStyle = "#fff";
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.lineWidth *= 0.6;
  pen.strokeStyle = "#d50000";
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.font = `${size}px system-ui, sans-serif`;
  const width = pen.measureText(words).width + size;
  const top = y1 >= 1.5 * size ? y1 - 1.5 * size : y1;
  const left = Math.max(0, Math.min(x1, pen.canvas.width - width));
  pen.fillStyle = "#d50000";
  pen.fillRect(left, top, width, 1.5 * size);
  pen.fillStyle = "#fff";
  pen.fillText(words, left + size / 2, top + 1.1 * size);
}

// The camera

let stream = null;

async function openCamera() {
  const touch = matchMedia("(pointer: coarse)").matches;
  if (touch || !navigator.mediaDevices) {
    part("shot").click(); // a phone's own camera; on others a choice of files
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280 } });
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`);
    return;
  }
  part("video").srcObject = stream;
  part("live").hidden = false;
  part("take").focus();
}

function closeCamera() {
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = null;
  part("live").hidden = true;
  part("camera").focus();
}

function take() {
  const video = part("video");
  const canvas = made("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => add([new File([blob], "camera.jpg", { type: blob.type })]), "image/jpeg", 0.95);
}

// What a person does

const dragged = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");

addEventListener("dragover", (event) => {
  if (!dragged(event)) return;
  event.preventDefault();
  part("give").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) part("give").classList.remove("over");
});
addEventListener("drop", (event) => {
  part("give").classList.remove("over");
  if (!dragged(event)) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});
addEventListener("paste", (event) => add(event.clipboardData.files));
part("choose").addEventListener("click", () => part("files").click());
for (const id of ["files", "shot"]) {
  part(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
}
part("camera").addEventListener("click", openCamera);
part("take").addEventListener("click", take);
part("close").addEventListener("click", closeCamera);
part("layer").addEventListener("change", () => shown.forEach((draw) => draw()));
part("clear").addEventListener("click", () => {
  shown.length = 0;
  part("answers").replaceChildren();
  part("clear").hidden = true;
  say("");
});
start().catch((error) => say(`The service does not answer: ${error.message}`));
