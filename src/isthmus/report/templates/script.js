"use strict";
(function () {
  function each(selector, run, root) { Array.prototype.forEach.call((root || document).querySelectorAll(selector), run); }

  // Panels: a row of buttons shows one method. All groups of a kind move together, so six examples need one click.
  function choose(kind, name) {
    each(".chooser[data-kind='" + kind + "'] button", function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.name === name));
    });
    each(".panels[data-kind='" + kind + "']", function (group) {
      if (![].some.call(group.children, function (child) { return child.dataset.name === name; })) return;
      each(":scope > .panel", function (panel) { panel.open = panel.dataset.name === name; }, group);
    });
  }
  each(".panels", function (group) {
    var place = document.getElementById("choose-" + group.dataset.kind);
    group.classList.add("chosen");
    if (place && place.firstChild) return;
    var bar = document.createElement("div"), said = document.createElement("span");
    bar.className = "chooser"; bar.dataset.kind = group.dataset.kind; bar.setAttribute("role", "group"); bar.setAttribute("aria-label", group.dataset.label);
    said.textContent = group.dataset.label; bar.append(said);
    each(":scope > .panel", function (panel) {
      var button = document.createElement("button");
      button.type = "button"; button.dataset.name = panel.dataset.name;
      button.setAttribute("aria-pressed", String(panel.open));
      panel.querySelector("summary").childNodes.forEach(function (node) { button.append(node.cloneNode(true)); });
      button.addEventListener("click", function () {
        var before = button.getBoundingClientRect().top;
        choose(group.dataset.kind, button.dataset.name);
        window.scrollBy({ top: button.getBoundingClientRect().top - before, behavior: "instant" });
      });
      bar.append(button);
    }, group);
    (place || group).prepend(bar);
  });

  // Sorting: n/a stays last whichever way; the first click puts the best on top.
  function key(row, at) { return row.cells[at].dataset.value; }
  function sort(table, head, at) {
    var text = head.dataset.sort === "text", body = table.tBodies[0];
    var down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.dataset.sort === "up";
    var rows = [].slice.call(body.rows);
    rows.sort(function (a, b) {
      var x = key(a, at), y = key(b, at);
      if (text) {
        x = at ? a.cells[at].textContent.trim() : Number(x); y = at ? b.cells[at].textContent.trim() : Number(y);
        return (x > y ? 1 : x < y ? -1 : 0) * (down ? -1 : 1);
      }
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      return (Number(x) - Number(y)) * (down ? -1 : 1);
    });
    rows.forEach(function (row) { body.append(row); });
    each("th[aria-sort]", function (other) { other.removeAttribute("aria-sort"); }, table);
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  each("table.sortable", function (table) {
    each("thead tr:last-child th", function (head) {
      if (!head.dataset.sort) return;
      var button = document.createElement("button"), at = head.cellIndex;
      button.type = "button"; button.textContent = head.textContent;
      head.textContent = ""; head.append(button);
      button.addEventListener("click", function () { sort(table, head, at); });
    }, table);
  });
})();
