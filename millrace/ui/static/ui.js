// Keeps a page as things are: the server sends the parts that have changed, as HTML that it has escaped, and they are put in
// the place of what is there. Everything works without this file, too; then a page shows how things were when it was asked for.
"use strict";

const body = document.body;
const away = document.getElementById("away");
const pulse = document.getElementById("pulse");
const words = document.getElementById("pulse-words");
const parser = new DOMParser();
// The server says something every two seconds.
const SILENT_MS = 6000;
const CUT_MS = 2000;
const MOST_ROWS = 100;
let holds = false;
let stream = null;
let heard = 0;

function text(node, what) {
  if (node.textContent !== what) node.textContent = what;
}

// Makes one element as another is, and leaves alone what is the same, so that focus, selection and open details stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const mine = [...old.childNodes];
  const theirs = [...fresh.childNodes];
  theirs.forEach((child, index) => (index < mine.length ? morph(mine[index], child) : old.append(child)));
  mine.slice(theirs.length).forEach((child) => child.remove());
}

function place(id, html) {
  const old = document.getElementById(id);
  if (!old) return;
  const row = html.trimStart().startsWith("<tr");
  const page = parser.parseFromString(row ? `<table><tbody>${html}</tbody></table>` : html, "text/html");
  const fresh = page.getElementById(id);
  if (fresh) morph(old, fresh);
}

function say(trouble) {
  text(away, trouble);
  away.hidden = !trouble;
  pulse.classList.toggle("lost", Boolean(trouble));
  text(words, trouble ? "not live" : "live");
}

function since(seconds) {
  if (!seconds) return "";
  return ` Since ${new Date(seconds * 1000).toISOString().slice(11, 19)} UTC; what is shown is from before.`;
}

function follow() {
  if (stream || !body.dataset.live || document.hidden) return;
  stream = new EventSource(body.dataset.live);
  const heardOf = () => { heard = Date.now(); };
  stream.addEventListener("open", heardOf);
  stream.addEventListener("parts", (event) => {
    heardOf();
    const told = JSON.parse(event.data);
    for (const [id, html] of Object.entries(told.parts)) place(id, html);
    say(told.away ? `${told.away}.${since(told.since)}` : "");
  });
  stream.addEventListener("rows", (event) => {
    heardOf();
    const told = JSON.parse(event.data);
    say(told.away);
    if (holds) return;
    if (told.told) text(document.getElementById("told"), told.told);
    const rows = document.getElementById("rows");
    const page = parser.parseFromString(`<table><tbody>${told.rows}</tbody></table>`, "text/html");
    rows.prepend(...page.querySelectorAll("tr"));
    while (rows.rows.length > MOST_ROWS) rows.lastElementChild.remove();
    if (told.over) {
      leave();
      body.dataset.live = "";
    }
  });
  stream.addEventListener("state", (event) => {
    heardOf();
    const told = JSON.parse(event.data);
    if (told.away) say(`${told.away}.`);
  });
  stream.addEventListener("error", () => {
    if (stream && stream.readyState === EventSource.CLOSED) leave();
  });
}

function leave() {
  if (stream) stream.close();
  stream = null;
}

// A browser gives up on a stream that was refused, and some networks drop one without a word.
setInterval(() => {
  if (document.hidden || !body.dataset.live) return;
  const silent = Date.now() - heard;
  if (stream && (silent > SILENT_MS || (silent > CUT_MS && stream.readyState !== EventSource.OPEN))) {
    say("millrace ui doesn't answer. This page goes on by itself once it does.");
    leave();
    heard = Date.now();
  }
  follow();
}, 1000);

// Streams are few in a browser, so a page that nobody sees has none.
document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
addEventListener("pagehide", leave);
addEventListener("pageshow", follow);
heard = Date.now();
follow();

if (body.dataset.retry !== "0") {
  setInterval(async () => {
    try {
      if ((await fetch(location.href)).ok) location.reload();
    } catch {
      // the page's server is away too: once more in a moment
    }
  }, 1000 * Number(body.dataset.retry));
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  const field = document.getElementById("q");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
});

const hold = document.getElementById("hold");
if (hold) {
  hold.addEventListener("click", () => {
    holds = !holds;
    hold.setAttribute("aria-pressed", String(holds));
    text(hold, holds ? "Go on" : "Hold");
    hold.setAttribute("aria-label", hold.textContent);
  });
}

for (const all of document.querySelectorAll("input[data-all]")) {
  all.addEventListener("change", () => {
    for (const one of all.form.querySelectorAll(`input[name="${all.dataset.all}"]`)) one.checked = all.checked;
  });
}

// What does something is pressed once.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  setTimeout(() => event.target.querySelectorAll("button").forEach((button) => { button.disabled = true; }), 0);
});
