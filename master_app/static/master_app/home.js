// The first page: each part of it is a module, and this one starts them.
import { startCopyButtons } from "./copying.js";
import { startDeleteButtons } from "./deleting.js";
import { startDropping } from "./dropping.js";
import { startGenerating } from "./generating.js";
import { startLiveFragments } from "./live.js";
import { startUploads } from "./uploads.js";

startLiveFragments();
startCopyButtons();
startDeleteButtons();
startDropping(startUploads());
startGenerating();

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  document.getElementById("file-search").focus();
});
