// The value of this script is a list of what is wrong with the document.
(() => {
	const problems = [];
	const root = document.documentElement;
	if (root.scrollWidth > root.clientWidth) {
		const wide = [...document.body.querySelectorAll("*")].filter((e) => {
			const box = getComputedStyle(e.closest(".box") || e).overflowX === "auto" ? e.closest(".box") : null;
			return (!box || box === e) && e.getBoundingClientRect().right > root.clientWidth + 0.5;
		});
		problems.push(`the page is ${root.scrollWidth} pixels wide in a window of ${root.clientWidth}: ${wide.slice(0, 3).map((e) => e.tagName + "." + e.className).join(", ")}`);
	}
	if (document.scripts.length > 0) problems.push("the page has a script");
	if (!document.documentElement.lang) problems.push("the page has no language");
	if (document.querySelectorAll("h1").length !== 1) problems.push("the page does not have one h1");

	// A colour is [red, green, blue, alpha].
	const parse = (text) => {
		const n = text.match(/[\d.]+/g).map(Number);
		return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
	};
	const over = (top, below) => {
		const a = top[3];
		return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(1);
	};
	const background = (element) => {
		const layers = [];
		for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
		return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
	};
	const luminance = (c) => {
		const [r, g, b] = c.slice(0, 3).map((v) => {
			v /= 255;
			return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
		});
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const contrast = (a, b) => {
		const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
		return (x + 0.05) / (y + 0.05);
	};
	let texts = 0;
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode());) {
		const element = node.parentElement;
		if (!node.data.trim() || !element.getClientRects().length) continue;
		texts++;
		const below = background(element);
		const ratio = contrast(over(parse(getComputedStyle(element).color), below), below);
		if (ratio < 4.5) problems.push(`the contrast of ${JSON.stringify(node.data.trim().slice(0, 40))} is ${ratio.toFixed(2)}`);
	}
	if (texts === 0) problems.push("the page has no text");
	return problems;
})()
