// Shows the numbers of the step under the pointer, on all charts at once. They come from the table
// of steps; nothing here is needed to read the page.
(() => {
  const table = document.getElementById("steps");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const steps = rows.map((row) => Number(row.cells[0].textContent.replace(/,/g, "")));
  const plots = [...document.querySelectorAll("svg.timeline")];
  const box = document.createElement("dl");
  box.className = "readout";
  box.hidden = true;
  document.body.append(box);

  const cursors = plots.map((plot) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", "0");
    line.setAttribute("y2", "100%");
    plot.append(line);
    return line;
  });

  const nearest = (step) => {
    let low = 0;
    let high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle;
      else high = middle;
    }
    return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
  };

  const fill = (index) => {
    box.replaceChildren(
      ...heads.flatMap((head, column) => {
        const name = document.createElement("dt");
        const value = document.createElement("dd");
        name.textContent = head;
        value.textContent = rows[index].cells[column].textContent;
        return [name, value];
      }),
    );
  };

  const place = (event) => {
    box.hidden = false;
    const right = event.clientX + 16 + box.offsetWidth;
    const left = right < innerWidth ? event.clientX + 16 : event.clientX - 16 - box.offsetWidth;
    const top = Math.min(event.clientY + 16, innerHeight - box.offsetHeight - 8);
    box.style.left = `${Math.max(left, 4)}px`;
    box.style.top = `${Math.max(top, 4)}px`;
  };

  const hide = () => {
    box.hidden = true;
    cursors.forEach((line) => line.classList.remove("on"));
  };

  plots.forEach((plot) => {
    plot.addEventListener("pointermove", (event) => {
      const low = Number(plot.dataset.low);
      const high = Number(plot.dataset.high);
      const area = plot.getBoundingClientRect();
      const index = nearest(low + ((high - low) * (event.clientX - area.left)) / area.width);
      const position = `${(100 * (steps[index] - low)) / (high - low)}%`;
      cursors.forEach((line) => {
        line.setAttribute("x1", position);
        line.setAttribute("x2", position);
        line.classList.add("on");
      });
      // A mark explains itself; the numbers would cover its explanation.
      if (event.target.closest("a")) {
        box.hidden = true;
        return;
      }
      fill(index);
      place(event);
    });
    plot.addEventListener("pointerleave", hide);
  });
})();
