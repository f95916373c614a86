for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, at) => {
    const text = row.cells[at].innerText.trim();
    // The first number of several: of "81.7 (64.9 to 101)" the value, of "64.9 to 101" the lower end.
    const first = text.match(/-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?/i);
    const number = first === null ? NaN : parseFloat(first[0].replace(/,/g, ""));
    const unit = { ms: 1e-3, s: 1, min: 60, h: 3600, MiB: 1, GiB: 1024 }[text.split(" ").pop()] || 1;
    return table.tHead.rows[0].cells[at].classList.contains("n") && !isNaN(number) ? number * unit : text;
  };
  for (const head of table.tHead.rows[0].cells) {
    const sort = () => {
      const up = head.ariaSort !== "ascending", at = head.cellIndex, grouped = table.classList.contains("grouped");
      const rows = grouped ? [...table.tBodies] : [...table.tBodies[0].rows];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.ariaSort = up ? "ascending" : "descending";
      rows.sort((a, b) => {
        const one = value(grouped ? a.rows[0] : a, at), two = value(grouped ? b.rows[0] : b, at);
        if (typeof one !== typeof two) return typeof one === "number" ? -1 : 1;
        return (one < two ? -1 : one > two ? 1 : 0) * (up ? 1 : -1);
      });
      (grouped ? table : table.tBodies[0]).append(...rows);
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } });
  }
}
