() => {
  // The texts of the page that stand out too little from their background, with their ratio.
  // WCAG 2.1, 1.4.3: at least 4.5 to 1, or 3 to 1 for large text (24 px, or 18.66 px and bold).
  const channels = (color) => color.match(/[\d.]+/g).map(Number);

  function luminance(color) {
    const [red, green, blue] = color
      .map((channel) => channel / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function backgroundOf(element) {
    for (let ancestor = element; ancestor; ancestor = ancestor.parentElement) {
      const [red, green, blue, alpha = 1] = channels(getComputedStyle(ancestor).backgroundColor);
      if (alpha === 1) return [red, green, blue];
    }
    return [255, 255, 255];
  }

  function contrast(element) {
    const text = luminance(channels(getComputedStyle(element).color).slice(0, 3));
    const ground = luminance(backgroundOf(element));
    return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
  }

  function wanted(element) {
    const { fontSize, fontWeight } = getComputedStyle(element);
    const pixels = parseFloat(fontSize);
    return pixels >= 24 || (pixels >= 18.66 && fontWeight >= 700) ? 3 : 4.5;
  }

  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || !element.checkVisibility({ checkOpacity: true })) continue;
    if (contrast(element) < wanted(element)) poor.push(`${text}: ${contrast(element).toFixed(2)}`);
  }
  return poor;
}
