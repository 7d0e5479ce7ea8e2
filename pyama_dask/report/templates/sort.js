for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, k) => row.cells[k].dataset.value ?? row.cells[k].textContent.trim();
  heads.forEach((head, k) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => compare(value(a, k), value(b, k)));
    body.append(...(down ? rows.reverse() : rows));
  }));
}
