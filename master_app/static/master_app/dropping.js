// Files by drop anywhere on the page (folders with what is in them), by choice, or by paste.

export function startDropping(addFiles) {
  const overlay = document.getElementById("drop-overlay");
  const input = document.getElementById("file-input");
  // Each element under the pointer sends its own enter and leave; the drag is over at zero.
  let depth = 0;

  input.addEventListener("change", () => {
    addFiles([...input.files]);
    input.value = "";
  });
  document.addEventListener("paste", (event) => addFiles([...(event.clipboardData?.files ?? [])]));
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    overlay.hidden = false;
  });
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    overlay.hidden = depth === 0;
  });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    overlay.hidden = true;
    addFiles(await droppedFiles(event.dataTransfer));
  });
}

function carriesFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

function droppedFiles(transfer) {
  // Entries are gone once this event is over, so all of them are taken before anything waits.
  const entries = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile())
    .filter(Boolean);
  return Promise.all(entries.map(filesOf)).then((lists) => lists.flat());
}

async function filesOf(entry) {
  if (entry instanceof File) return [entry];
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const lists = await Promise.all((await entriesOf(entry)).map(filesOf));
  return lists.flat();
}

async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  // A reader hands out a folder in parts, and an empty part is the end.
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (part.length === 0) return all;
    all.push(...part);
  }
}
