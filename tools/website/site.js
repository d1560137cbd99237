// What makes the site usable with a keyboard and on a phone.

// without a server, a page cannot read others, so the search shows their titles alone
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// a block that scrolls sideways can be scrolled with the arrow keys only if it takes the focus
function markScrollingBlocks() {
  for (const block of document.querySelectorAll("pre, .table-wrapper")) {
    if (block.scrollWidth > block.clientWidth) {
      block.tabIndex = 0;
    } else {
      block.removeAttribute("tabindex");
    }
  }
}

// on a phone, where cells are not beside each other, each shows the title of its column; the roles
// tell a screen reader that they are still a table
function nameColumns() {
  for (const table of document.querySelectorAll(".table-wrapper table")) {
    const titles = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    table.setAttribute("role", "table");
    table.querySelectorAll("tr").forEach((row) => row.setAttribute("role", "row"));
    for (const cell of table.querySelectorAll("tbody td")) {
      cell.setAttribute("role", "cell");
      cell.dataset.column = titles[cell.cellIndex];
    }
  }
}

function addUnfoldButton() {
  const files = [...document.querySelectorAll("details.diff, details.file")];
  if (!files.length) {
    return;
  }
  const button = document.createElement("button");
  const allOpen = () => files.every((file) => file.open);
  const label = () => {
    button.textContent = allOpen() ? "Fold all files" : "Unfold all files";
  };
  button.className = "unfold";
  button.addEventListener("click", () => {
    const open = !allOpen();
    files.forEach((file) => {
      file.open = open;
    });
  });
  files.forEach((file) => file.addEventListener("toggle", label));
  label();
  files[0].before(button);
}

document.addEventListener("DOMContentLoaded", () => {
  addUnfoldButton();
  nameColumns();
  markScrollingBlocks();
  window.addEventListener("resize", markScrollingBlocks);
  document.addEventListener("toggle", markScrollingBlocks, true);
});
