// Draws one figure over time, from points that are scaled to 0..1 and texts for each of them.

import { make, setText } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

// The parts of a line that have values, as points of a picture of 100 by 100.
function strokes(line) {
  const found = [];
  let part = [];
  const last = Math.max(1, line.length - 1);
  line.forEach((value, number) => {
    if (value === null) { if (part.length) found.push(part); part = []; return; }
    part.push([100 * number / last, 100 - 100 * value]);
  });
  if (part.length) found.push(part);
  return found.map((one) => (one.length > 1 ? one : [...one, [one[0][0] + 1, one[0][1]]]));
}

const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join("L");

export function makeChart() {
  const caption = make("figcaption", "", make("span", "soft"), make("b"));
  const picture = draw("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", tabindex: "0" });
  const scale = make("div", "scale", make("small"), make("small"), make("small", "", "0"));
  scale.setAttribute("aria-hidden", "true");
  const readout = make("p", "soft readout");
  readout.setAttribute("aria-live", "polite");
  const figure = make("figure", "card", caption, make("div", "plot", scale, picture), readout);
  let at = null;
  const point = (number) => {
    const { chart, times } = figure;
    at = number === null ? null : Math.max(0, Math.min(times.length - 1, number));
    picture.querySelector(".cursor")?.remove();
    setText(readout, at === null ? "" : `${times[at]}: ${chart.texts[at]}`);
    if (at !== null) {
      const x = 100 * at / Math.max(1, times.length - 1);
      draw("path", { d: `M${x},0V100`, class: "cursor" }, picture);
    }
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    point(Math.round((event.clientX - box.left) / box.width * (figure.times.length - 1)));
  });
  picture.addEventListener("pointerleave", () => point(null));
  picture.addEventListener("blur", () => point(null));
  picture.addEventListener("keydown", (event) => {
    const end = figure.times.length - 1;
    const to = { ArrowLeft: (at ?? end + 1) - 1, ArrowRight: (at ?? end - 1) + 1, Home: 0, End: end, Escape: null };
    if (!(event.key in to)) return;
    event.preventDefault();
    point(to[event.key]);
  });
  return figure;
}

export function fillChart(figure, chart, times) {
  Object.assign(figure, { chart, times });
  const [caption, plot] = figure.children;
  setText(caption.firstChild, chart.title);
  setText(caption.lastChild, chart.now);
  const [scale, picture] = plot.children;
  setText(scale.children[0], chart.top);
  setText(scale.children[1], chart.middle);
  picture.setAttribute("aria-label", chart.label);
  for (const old of picture.querySelectorAll(":not(.cursor)")) old.remove();
  draw("path", { d: "M0,0H100M0,50H100M0,100H100", class: "grid" }, picture);
  for (const points of strokes(chart.line)) {
    draw("path", { d: `${path(points)}L${points.at(-1)[0]},100L${points[0][0]},100Z`, class: "area" }, picture);
    draw("path", { d: path(points), class: "line" }, picture);
  }
  for (const points of strokes(chart.limit)) draw("path", { d: path(points), class: "limit" }, picture);
}
