"use strict";
(() => {
  const box = document.getElementById("filter");
  const status = document.getElementById("status");
  const empty = document.getElementById("empty");
  const sections = [...document.querySelectorAll(".concept")];
  const buttons = [...document.querySelectorAll(".facets button")].map((node) => ({
    node, count: node.querySelector(".n"), key: node.dataset.tag ?? node.dataset.rule, isTag: "tag" in node.dataset,
  }));
  const cards = [...document.querySelectorAll(".card")].map((node) => ({
    node,
    name: node.dataset.name.toLowerCase(),
    spans: [...node.querySelectorAll(".tags span[data-tag]")],
    rules: new Set((node.dataset.rules ?? "").split(" ").filter(Boolean)),
    tags: new Set(),
  }));
  for (const card of cards) for (const span of card.spans) card.tags.add(span.dataset.tag);
  const known = new Set(buttons.map((button) => button.key));

  const plain = (text) => text.replace(/[_\s]+/g, " ").replace(/\\/g, "").trim().toLowerCase();
  const parse = (text) => text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const without = part.length > 1 && part.startsWith("-") && !known.has(plain(part));
    const word = without ? part.slice(1).trim() : part;
    const rule = buttons.find((button) => !button.isTag && button.key.toLowerCase() === word.toLowerCase());
    return { without, word: rule ? rule.key : plain(word), isRule: Boolean(rule) };
  });
  const has = (card, term) => {
    if (term.isRule) return card.rules.has(term.word);
    if (known.has(term.word)) return card.tags.has(term.word);
    return card.name.includes(term.word) || [...card.tags].some((tag) => tag.includes(term.word));
  };

  const apply = () => {
    const terms = parse(box.value);
    const counts = new Map();
    let shown = 0;
    for (const card of cards) {
      const fits = terms.every((term) => has(card, term) !== term.without);
      card.node.hidden = !fits;
      if (!fits) continue;
      shown += 1;
      for (const tag of card.tags) counts.set(tag, (counts.get(tag) ?? 0) + 1);
      for (const rule of card.rules) counts.set(rule, (counts.get(rule) ?? 0) + 1);
    }
    const asked = new Map(terms.map((term) => [term.word, term.without]));
    for (const button of buttons) {
      const count = counts.get(button.key) ?? 0;
      button.count.textContent = count;
      button.node.classList.toggle("none", count === 0 && !asked.has(button.key));
      button.node.classList.toggle("without", asked.get(button.key) === true);
      button.node.setAttribute("aria-pressed", String(asked.get(button.key) === false));
      button.node.style.setProperty("--share", shown ? count / shown : 0);
    }
    for (const card of cards) for (const span of card.spans) span.classList.toggle("on", asked.get(span.dataset.tag) === false);
    for (const section of sections) section.hidden = terms.length > 0 && !section.querySelector(".card:not([hidden])");
    empty.hidden = shown > 0 || cards.length === 0;
    status.textContent = status.dataset.text.replace("{shown}", shown).replace("{all}", cards.length);
  };
  const toggle = (key, without) => {
    const parts = box.value.split(",").map((part) => part.trim()).filter(Boolean);
    const same = (part) => plain(part.replace(/^-/, "")) === plain(key) || plain(part) === plain(key);
    const rest = parts.filter((part) => !same(part));
    box.value = (rest.length < parts.length && !without ? rest : [...rest, (without ? "-" : "") + key]).join(", ");
    apply();
  };

  let waiting = 0;
  box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 90); });
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-tag], [data-rule]");
    if (chosen) toggle(chosen.dataset.tag ?? chosen.dataset.rule, event.shiftKey);
    else event.target.closest(".card")?.focus({ preventScroll: true });
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && box.value) { box.value = ""; apply(); return; }
    if (event.target === box) return;
    if (event.key === "/") { event.preventDefault(); box.focus(); box.select(); }
    if (event.key === "j" || event.key === "k") {
      const visible = cards.filter((card) => !card.node.hidden).map((card) => card.node);
      const at = visible.indexOf(document.activeElement);
      const next = visible[event.key === "j" ? at + 1 : Math.max(at, 1) - 1];
      if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: next.offsetHeight > innerHeight * .8 ? "start" : "center" }); }
    }
  });
  if (matchMedia("(max-width: 52rem)").matches) for (const each of document.querySelectorAll("details")) each.open = false;
  document.documentElement.classList.add("ready");
  apply();
})();
