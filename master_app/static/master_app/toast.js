// A short message at the foot of the page that goes by itself.

const TOAST_MILLISECONDS = 1800;
let hideToast;

export function showToast(message) {
  const toast = document.getElementById("toast");
  toast.textContent = message;
  toast.classList.add("toast-shown");
  clearTimeout(hideToast);
  hideToast = setTimeout(() => toast.classList.remove("toast-shown"), TOAST_MILLISECONDS);
}
