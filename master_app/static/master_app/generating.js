// The form that generates images: previews of the references, the wait, the results, the refusals.
import { refreshFiles } from "./live.js";

const NO_KEY =
  "No API key is set, so a placeholder drew this. Set MINI_DROPBOX_SEEDREAM_API_KEY for real images.";

export function startGenerating() {
  const form = document.getElementById("generate");
  for (const reference of form.querySelectorAll(".reference")) startReference(reference);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate(form);
  });
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

function startReference(reference) {
  const input = reference.querySelector("input");
  const preview = reference.querySelector("img");
  const remove = reference.querySelector("button");
  input.addEventListener("change", () => {
    const [file] = input.files;
    preview.hidden = remove.hidden = !file;
    if (!file) return;
    preview.alt = `Preview of ${file.name}`;
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      preview.src = reader.result;
    });
    reader.readAsDataURL(file);
  });
  preview.addEventListener("error", () => {
    preview.hidden = true;
  });
  remove.addEventListener("click", () => {
    input.value = "";
    preview.removeAttribute("src");
    preview.hidden = remove.hidden = true;
    input.focus();
  });
}

async function generate(form) {
  const submit = form.querySelector("[type=submit]");
  // The button stays focusable while it is busy, so the second press has to be refused here.
  if (submit.getAttribute("aria-disabled") === "true") return;
  showLine("generate-error", "");
  showLine("generate-notice", "");
  if (!form.elements.prompt.value.trim()) {
    showLine("generate-error", "Say in a few words what the image should show.");
    form.elements.prompt.focus();
    return;
  }
  submit.setAttribute("aria-disabled", "true");
  const stopClock = startClock(submit);
  try {
    showResult(form, await requestImages(form));
  } catch (error) {
    if (!(error instanceof GenerationError)) throw error;
    showLine("generate-error", error.message);
  } finally {
    stopClock();
    submit.removeAttribute("aria-disabled");
  }
}

class GenerationError extends Error {}

async function requestImages(form) {
  const body = new FormData();
  body.append("prompt", form.elements.prompt.value.trim());
  for (const name of ["image1", "image2"]) {
    const [file] = form.elements[name].files;
    if (file) body.append(name, file, file.name);
  }
  let response;
  try {
    response = await fetch(form.action, { method: "POST", body });
  } catch {
    throw new GenerationError("The master cannot be reached. Try again when it is back.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new GenerationError(answer.detail || `The master answered ${response.status}, and no reason.`);
  return answer;
}

function showResult(form, answer) {
  const images = (answer.images ?? []).filter((image) => image.hash);
  const list = document.getElementById("generated");
  list.prepend(...images.map((image) => resultOf(form, image)));
  if (answer.provider === "placeholder") showLine("generate-notice", NO_KEY);
  const refusals = (answer.errors ?? []).map((error) => error.detail).join(" ");
  if (refusals) showLine("generate-error", refusals);
  else if (images.length === 0) showLine("generate-error", "The provider answered without an image.");
  announce(images.length ? "The image is ready." : "");
  refreshFiles();
}

function resultOf(form, image) {
  const template = document.getElementById("generated-template");
  const item = template.content.firstElementChild.cloneNode(true);
  const link = safeLink(image.url);
  const picture = item.querySelector("img");
  picture.src = form.dataset.thumbnailUrl.replace("HASH", encodeURIComponent(image.hash));
  picture.alt = form.elements.prompt.value.trim();
  item.querySelector(".generated-size").textContent =
    image.width && image.height ? `${image.width} × ${image.height}` : (image.name ?? "");
  if (link) {
    item.querySelector("a").href = link;
    item.querySelector("button").dataset.copy = link;
  }
  return item;
}

/** The address as http or https, or null: a link of any other scheme could run code. */
function safeLink(url) {
  const address = URL.canParse(url, location.href) ? new URL(url, location.href) : null;
  return address && ["http:", "https:"].includes(address.protocol) ? address.href : null;
}

function startClock(submit) {
  const started = Date.now();
  const label = submit.textContent;
  const tick = () => {
    submit.textContent = `Generating… ${Math.floor((Date.now() - started) / 1000)} s`;
  };
  tick();
  showLine("generate-busy", "This may take 10 to 90 seconds.");
  announce("Generating. This may take 10 to 90 seconds.");
  const timer = setInterval(tick, 1000);
  return () => {
    clearInterval(timer);
    submit.textContent = label;
    showLine("generate-busy", "");
  };
}

function showLine(id, sentence) {
  const line = document.getElementById(id);
  line.textContent = sentence;
  line.hidden = !sentence;
}

function announce(sentence) {
  document.getElementById("generate-announcement").textContent = sentence;
}
