// One file's way to a storage node. The bytes go to the node directly, never through the master.

let turn = Math.floor(Math.random() * 1000);

/** The nodes that take uploads now, as the cluster's state on the page says, a new one first each time. */
export function nodesInTurn() {
  const nodes = [...document.querySelectorAll("#cluster [data-upload-url]")].map((card) => ({
    id: card.dataset.nodeId,
    url: card.dataset.uploadUrl,
  }));
  const first = nodes.length ? turn++ % nodes.length : 0;
  return [...nodes.slice(first), ...nodes.slice(0, first)];
}

/** A refusal or a failure, as a sentence for the person who uploads. */
export class TransferError extends Error {}

/**
 * Send `file` to the first node that can be reached, and return what it answered with `nodeUrl`.
 * A node that answers has the last word: its refusal is not asked of another node.
 */
export async function transfer(file, { signal, onProgress }) {
  const nodes = nodesInTurn();
  if (nodes.length === 0) throw new TransferError("No storage node takes files now. Start one, then retry.");
  for (const node of nodes) {
    onProgress(0);
    const answer = await post(node.url, file, signal, onProgress);
    if (answer) return { ...answer, nodeUrl: new URL(node.url).origin };
  }
  throw unreachable(nodes);
}

/** The error when none of the nodes can be reached. */
export function unreachable(nodes) {
  const names = nodes.map((node) => node.id).join(", ");
  return new TransferError(
    nodes.length === 1
      ? `Node ${names} cannot be reached. Retry when it is back.`
      : `None of the nodes ${names} can be reached. Retry when one is back.`,
  );
}

/** Resolve to the node's answer, or to null when the node cannot be reached. */
function post(url, file, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.total ? event.loaded / event.total : 1);
    });
    request.upload.addEventListener("load", () => onProgress(1));
    request.addEventListener("load", () => {
      const answer = parse(request.responseText);
      if (request.status === 200 && answer.success) resolve(answer);
      else reject(new TransferError(answer.message || answer.detail || `The node answered ${request.status}, and no reason.`));
    });
    request.addEventListener("error", () => resolve(null));
    request.addEventListener("abort", () => reject(new DOMException("Cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.open("POST", url);
    request.send(form);
  });
}

function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
