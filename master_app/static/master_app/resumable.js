// A large file's way to a storage node: a resumable upload, by the protocol tus 1.0.
import { nodesInTurn, TransferError, unreachable } from "./transfer.js";

// A node that is started again is back within these waits; they begin anew whenever bytes got through.
const RETRY_DELAYS = [0, 1000, 2000, 4000, 8000, 15000, 15000, 15000];
const LOCKED = [409, 423];
const DISK_FULL = 507;

// The addresses of the uploads that this page is at work on.
const running = new Set();

/**
 * Send `file` to a node piece by piece, and return what became of it with `nodeUrl`. What an
 * earlier visit has begun goes on. `onInterrupted` is told of a broken line; it is tried again.
 */
export async function transferResumably(file, options) {
  const nodes = nodesInTurn();
  if (nodes.length === 0) throw new TransferError("No storage node takes files now. Start one, then retry.");
  const begun = await findBegun(file, nodes);
  const order = begun ? [begun.node, ...nodes.filter((node) => node !== begun.node)] : nodes;
  for (const node of order) {
    options.onProgress(0);
    const answer = await send(file, node, node === begun?.node ? begun.upload : null, options);
    if (answer) return { ...answer, nodeUrl: new URL(node.url).origin };
  }
  throw unreachable(nodes);
}

/** Find what is left of an earlier try to send this file, on a node that is there now. */
async function findBegun(file, nodes) {
  const search = new window.tus.Upload(file, { endpoint: "/", fingerprint });
  for (const upload of await search.findPreviousUploads()) {
    if (!upload.uploadUrl || running.has(upload.uploadUrl)) continue;
    const node = nodes.find(({ url }) => new URL(url).origin === new URL(upload.uploadUrl).origin);
    if (node) return { node, upload };
  }
  return null;
}

/** What a file is known by from one visit to the next; without the node, which may be any. */
async function fingerprint(file) {
  return ["mini-dropbox", file.name, file.type, file.size, file.lastModified].join("|");
}

/** Resolve to what became of the file, or to null when the node cannot be reached at all. */
function send(file, node, begun, { signal, onProgress, onInterrupted }) {
  return new Promise((resolve, reject) => {
    let stored = null;
    const upload = new window.tus.Upload(file, {
      endpoint: new URL("uploads/", node.url).href,
      fingerprint,
      metadata: { filename: file.name, filetype: file.type },
      removeFingerprintOnSuccess: true,
      retryDelays: RETRY_DELAYS,
      onUploadUrlAvailable: () => running.add(upload.url),
      onProgress: (sent, total) => onProgress(sent / total),
      onAfterResponse: (request, response) => {
        stored = storedBlob(response) ?? stored;
      },
      onShouldRetry: (error) => {
        // Before the upload has an address there is nothing to go on with, and other nodes to ask.
        const retry = upload.url !== null && isPassing(statusOf(error));
        if (retry) onInterrupted();
        return retry;
      },
      onSuccess: () => {
        running.delete(upload.url);
        if (stored) resolve(stored);
        else reject(new TransferError("The node has the file, but does not say where. Retry."));
      },
      onError: (error) => {
        running.delete(upload.url);
        if (statusOf(error)) reject(new TransferError(sentenceOf(error)));
        else if (upload.url === null) resolve(null);
        else reject(new TransferError(`Node ${node.id} cannot be reached. Retry: it goes on where it stopped.`));
      },
    });
    signal.addEventListener(
      "abort",
      () => {
        running.delete(upload.url);
        // The node forgets an upload that it is not told to end by itself, after a day.
        upload.abort(true).catch(() => {});
        reject(new DOMException("Cancelled", "AbortError"));
      },
      { once: true },
    );
    if (begun) {
      upload.resumeFromPreviousUpload(begun);
      running.add(begun.uploadUrl);
    }
    upload.start();
  });
}

/** Read what the node says of a finished upload, in the form of an answer to a plain one. */
function storedBlob(response) {
  const hash = response.getHeader("X-Blob-Hash");
  if (!hash) return null;
  return {
    hash,
    replicas: (response.getHeader("X-Blob-Replicas") ?? "").split(",").filter(Boolean),
    registered: response.getHeader("X-Blob-Registered") === "true",
    deduplicated: response.getHeader("X-Blob-Deduplicated") === "true",
  };
}

function isPassing(status) {
  return status === 0 || LOCKED.includes(status) || (status >= 500 && status !== DISK_FULL);
}

function statusOf(error) {
  return error.originalResponse?.getStatus() ?? 0;
}

function sentenceOf(error) {
  try {
    return JSON.parse(error.originalResponse.getBody()).message;
  } catch {
    return `The node answered ${statusOf(error)}, and no reason. Retry.`;
  }
}
