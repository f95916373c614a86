// Dash's components leave out what a screen reader needs: names of groups and sliders, and roles that do not nest.
(() => {
  const set = (node, name, value) => { if (node && node.getAttribute(name) !== value) node.setAttribute(name, value); };
  const plain = (node) => { for (const name of ["role", "aria-selected"]) if (node.hasAttribute(name)) node.removeAttribute(name); };
  const mend = () => {
    for (const [id, role, name] of [["tab", "radiogroup", "Pages"], ["states", "group", "States"]]) {
      const group = document.getElementById(id);
      set(group, "role", role);
      set(group, "aria-label", name);
      if (group) group.querySelectorAll("[data-option-index]").forEach(plain); // the input inside says it itself
    }
    for (const control of document.querySelectorAll(".control")) {
      const name = control.querySelector("label")?.textContent;
      if (name) control.querySelectorAll("[role=slider], input:not([aria-hidden])").forEach((node) => set(node, "aria-label", name));
    }
    document.querySelectorAll("input[aria-hidden=true]").forEach((node) => set(node, "tabindex", "-1"));
    set(document.getElementById("study"), "aria-label", "Study");
  };
  let due = false;
  const soon = () => { if (!due) { due = true; requestAnimationFrame(() => { due = false; mend(); }); } };
  const watch = { childList: true, subtree: true, attributes: true, attributeFilter: ["role", "aria-selected", "aria-hidden"] };
  new MutationObserver(soon).observe(document.documentElement, watch);
})();
