// Fragments that the server sends again every few seconds, merged into the page in place: what
// is the same stays untouched, so nothing flickers and focus, hover and selection survive.

const failedPictures = new Set();

export function startLiveFragments() {
  document.addEventListener("error", replaceFailedPicture, true);
  // A picture may have failed before this module was there to hear of it.
  for (const picture of document.querySelectorAll(".file-picture img")) {
    if (picture.complete && picture.naturalWidth === 0) failedPictures.add(picture.getAttribute("src"));
  }
  prepare(document);
  window.htmx.defineExtension("morph", {
    handleSwap(swapStyle, target, fragment) {
      if (swapStyle !== "morph") return false;
      prepare(fragment);
      mergeChildren(target, fragment);
      return true;
    },
  });
  document.body.addEventListener("htmx:configRequest", skipWhileHidden);
  document.body.addEventListener("htmx:afterRequest", showWhetherOnline);
  document.body.addEventListener("htmx:oobAfterSwap", announceHeadline);
  announcedTone = currentTone();
}

export function refreshFiles() {
  window.htmx.trigger("#files", "refresh");
}

function mergeChildren(target, source) {
  const keyed = new Map();
  for (const child of target.children) if (child.id) keyed.set(child.id, child);
  let cursor = target.firstChild;
  for (const wanted of [...source.childNodes]) {
    const match = wanted.id ? keyed.get(wanted.id) : cursor && isAlike(cursor, wanted) && cursor;
    if (!match || !isAlike(match, wanted)) {
      target.insertBefore(wanted, cursor);
      continue;
    }
    if (match === cursor) cursor = cursor.nextSibling;
    else target.insertBefore(match, cursor);
    mergeNode(match, wanted);
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

function isAlike(node, wanted) {
  return node.nodeName === wanted.nodeName && (node.id ?? "") === (wanted.id ?? "");
}

function mergeNode(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  mergeChildren(node, wanted);
}

// Fits what the server wrote to this browser: local times, and icons for pictures that failed.
function prepare(root) {
  for (const time of root.querySelectorAll("time[datetime][title]")) {
    const label = time.title.startsWith("Last heartbeat") ? "Last heartbeat: " : "";
    time.title = label + new Date(time.dateTime).toLocaleString();
  }
  for (const picture of root.querySelectorAll(".file-picture img")) {
    if (failedPictures.has(picture.getAttribute("src"))) replaceWithIcon(picture);
  }
}

function replaceFailedPicture({ target }) {
  if (!(target instanceof HTMLImageElement) || !target.matches(".file-picture img")) return;
  failedPictures.add(target.getAttribute("src"));
  replaceWithIcon(target);
}

function replaceWithIcon(picture) {
  const icon = document.querySelector("#upload-template").content.querySelector(".upload-icon");
  const copy = icon.cloneNode(true);
  copy.removeAttribute("class");
  copy.querySelector("use").setAttribute("href", "#icon-image");
  picture.replaceWith(copy);
}

function skipWhileHidden(event) {
  if (document.hidden) event.preventDefault();
}

function showWhetherOnline(event) {
  document.getElementById("offline").hidden = event.detail.successful === true;
}

// The sentence changes with every second of a node's silence; only a change of state is spoken.
let announcedTone;

function currentTone() {
  return document.querySelector("#headline .headline").className;
}

function announceHeadline() {
  if (currentTone() === announcedTone) return;
  announcedTone = currentTone();
  const sentence = document.querySelector("#headline h1").textContent.trim();
  document.getElementById("headline-announcement").textContent = sentence;
}
