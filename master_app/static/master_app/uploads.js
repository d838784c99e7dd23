// The list of uploads: what waits, what runs (a few at a time), what is done and what failed.
import { refreshFiles } from "./live.js";
import { transferResumably } from "./resumable.js";
import { transfer, TransferError } from "./transfer.js";
import { count, formatSize } from "./wording.js";

const AT_A_TIME = 3;
const FINISHED = new Set(["done", "failed", "cancelled"]);

const uploads = [];
let panel, list, summary, announcement, template, maxBytes, maxFormBytes;

/** Prepare the list, and return the function that adds files to it. */
export function startUploads() {
  panel = document.getElementById("uploads");
  list = document.getElementById("uploads-list");
  summary = document.getElementById("uploads-summary");
  announcement = document.getElementById("uploads-announcement");
  template = document.getElementById("upload-template");
  maxBytes = Number(document.body.dataset.maxFileBytes);
  maxFormBytes = Number(document.body.dataset.maxUploadBytes);
  document.getElementById("uploads-clear").addEventListener("click", () => {
    uploads.filter((upload) => FINISHED.has(upload.state)).forEach(discard);
  });
  window.addEventListener("beforeunload", (event) => {
    if (uploads.some((upload) => !FINISHED.has(upload.state))) event.preventDefault();
  });
  return addFiles;
}

function addFiles(files) {
  if (files.length === 0) return;
  for (const file of files) add(file);
  announce(`${count(files.length, "file")} added.`);
  startWaiting();
}

function add(file) {
  const row = template.content.firstElementChild.cloneNode(true);
  const upload = { file, row, state: "waiting", abort: null };
  part(upload, ".upload-name").textContent = file.name;
  part(upload, ".upload-name").title = file.webkitRelativePath || file.name;
  part(upload, ".upload-size").textContent = formatSize(file.size);
  part(upload, ".upload-progress").setAttribute("aria-label", `Upload of ${file.name}`);
  labelled(upload, "cancel", `Cancel ${file.name}`).addEventListener("click", () => cancel(upload));
  labelled(upload, "retry", `Retry ${file.name}`).addEventListener("click", () => retry(upload));
  labelled(upload, "download", `Download ${file.name}`);
  uploads.push(upload);
  list.append(row);
  if (file.size > maxBytes) {
    const limit = `it has ${formatSize(file.size)}, and one file may have ${formatSize(maxBytes)}`;
    show(upload, "failed", `Too large: ${limit}.`);
    part(upload, "[data-action=retry]").hidden = true;
  } else {
    show(upload, "waiting", "Waiting");
  }
}

function startWaiting() {
  const running = uploads.filter((upload) => upload.abort).length;
  const waiting = uploads.filter((upload) => upload.state === "waiting");
  waiting.slice(0, AT_A_TIME - running).forEach(run);
}

async function run(upload) {
  upload.abort = new AbortController();
  show(upload, "uploading", "Uploading");
  try {
    const send = upload.file.size > maxFormBytes ? transferResumably : transfer;
    const answer = await send(upload.file, {
      signal: upload.abort.signal,
      onProgress: (share) => showProgress(upload, share),
      onInterrupted: () => showInterruption(upload),
    });
    finish(upload, answer);
  } catch (error) {
    if (error.name === "AbortError") show(upload, "cancelled", "Cancelled");
    else if (error instanceof TransferError) show(upload, "failed", error.message);
    else {
      show(upload, "failed", "This page made a mistake. Reload it, then retry.");
      throw error;
    }
  } finally {
    upload.abort = null;
    announceEnd(upload);
    startWaiting();
  }
}

function showProgress(upload, share) {
  part(upload, ".upload-progress").value = share;
  if (share < 1) show(upload, "uploading", `Uploading ${Math.floor(share * 100)} %`);
  else show(upload, "storing", "Storing…");
}

function showInterruption(upload) {
  const share = Math.floor(part(upload, ".upload-progress").value * 100);
  show(upload, "uploading", `Interrupted at ${share} %. It goes on as soon as the node is back.`);
}

function finish(upload, answer) {
  const holders = answer.replicas ?? [];
  const copies = `${count(holders.length, "copy", "copies")} on ${holders.join(", ")}`;
  const same = answer.deduplicated ? " The same bytes were already here." : "";
  const later = answer.registered === false ? " It joins the list when the master is back." : "";
  const query = new URLSearchParams({ hash: answer.hash, name: upload.file.name });
  part(upload, "[data-action=download]").href = `${answer.nodeUrl}/retrieve?${query}`;
  part(upload, ".upload-progress").value = 1;
  const stop = same || later ? "." : "";
  show(upload, "done", (holders.length ? copies : "Stored") + stop + same + later);
  refreshFiles();
}

function show(upload, state, sentence) {
  const stateText = part(upload, ".upload-state");
  upload.state = state;
  upload.row.dataset.state = state;
  if (stateText.textContent !== sentence) stateText.textContent = sentence;
  part(upload, ".upload-icon use").setAttribute("href", iconOf(state));
  part(upload, "[data-action=retry]").hidden = state !== "failed" && state !== "cancelled";
  part(upload, "[data-action=download]").hidden = state !== "done";
  const verb = FINISHED.has(state) ? "Remove from this list:" : "Cancel";
  labelled(upload, "cancel", `${verb} ${upload.file.name}`);
  showSummary();
}

function iconOf(state) {
  return { done: "#icon-done", failed: "#icon-alert", cancelled: "#icon-close" }[state] ?? "#icon-file";
}

function showSummary() {
  const ended = uploads.filter((upload) => FINISHED.has(upload.state));
  const failed = uploads.filter((upload) => upload.state === "failed").length;
  const done = uploads.filter((upload) => upload.state === "done").length;
  panel.hidden = uploads.length === 0;
  document.getElementById("uploads-clear").hidden = ended.length === 0;
  if (ended.length < uploads.length) {
    summary.textContent = `Uploading ${ended.length + 1} of ${uploads.length}`;
  } else {
    const failures = failed ? `, ${failed} failed` : "";
    summary.textContent = `${count(done, "file")} uploaded${failures}`;
  }
}

function cancel(upload) {
  if (FINISHED.has(upload.state)) discard(upload);
  else if (upload.abort) upload.abort.abort();
  else show(upload, "cancelled", "Cancelled");
}

function retry(upload) {
  show(upload, "waiting", "Waiting");
  part(upload, "[data-action=cancel]").focus();
  startWaiting();
}

function discard(upload) {
  const next = upload.row.nextElementSibling ?? upload.row.previousElementSibling;
  const hadFocus = upload.row.contains(document.activeElement);
  uploads.splice(uploads.indexOf(upload), 1);
  upload.row.remove();
  if (hadFocus) (next?.querySelector("[data-action=cancel]") ?? document.getElementById("file-input")).focus();
  showSummary();
}

function announceEnd(upload) {
  announce(`${upload.file.name}: ${part(upload, ".upload-state").textContent}`);
}

function announce(sentence) {
  announcement.textContent = sentence;
}

function labelled(upload, action, label) {
  const control = part(upload, `[data-action=${action}]`);
  control.setAttribute("aria-label", label);
  control.title = label;
  return control;
}

function part(upload, selector) {
  return upload.row.querySelector(selector);
}
