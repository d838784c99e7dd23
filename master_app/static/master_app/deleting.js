// Buttons that delete the file whose address their `data-delete` holds, after asking once.

import { refreshFiles } from "./live.js";
import { showToast } from "./toast.js";

export function startDeleteButtons() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-delete]");
    if (!button || !window.confirm(`Delete “${button.dataset.name}”?`)) return;
    button.disabled = true;
    showToast(await deleteFile(button.dataset.delete));
    button.disabled = false;
    refreshFiles();
  });
}

async function deleteFile(address) {
  try {
    const answer = await fetch(address, { method: "DELETE" });
    if (answer.ok) return "File deleted";
    return answer.status === 404 ? "The file is gone already." : (await answer.json()).detail;
  } catch {
    return "The master does not answer. Try again in a moment.";
  }
}
