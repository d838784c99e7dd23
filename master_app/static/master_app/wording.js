// How numbers read. Sizes are in the same units as those that the server writes (1 KB = 1024 bytes).

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

export function formatSize(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  return `${value.toFixed(1).replace(".0", "")} ${UNITS[unit]}`;
}

export function count(number, singular, plural = `${singular}s`) {
  return `${number} ${number === 1 ? singular : plural}`;
}
