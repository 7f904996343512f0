'use strict';

// The page is complete without this script; it makes tables sort and filter, and draws the overview.

for (const table of document.querySelectorAll('table[data-sort]')) makeSortable(table);
makeFilter(document.getElementById('filter'));
makeOverview(document.getElementById('overview'));

// Numbers sort as numbers, with a class that has none ('–') last; names as people sort them.
function makeSortable(table) {
  const body = table.tBodies[0];
  const collator = new Intl.Collator(undefined, {numeric: true});
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const isNumber = header.classList.contains('number');
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener('click', () => {
      const sign = header.ariaSort === 'ascending' ? -1 : 1;
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[column].textContent;
        return {row, key: isNumber ? parseFloat(text.replaceAll(',', '')) : text};
      });
      keyed.sort((a, b) => {
        if (!isNumber) return sign * collator.compare(a.key, b.key);
        if (isNaN(a.key) || isNaN(b.key)) return isNaN(a.key) - isNaN(b.key);
        return sign * (a.key - b.key);
      });
      body.append(...keyed.map(({row}) => row));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      header.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
    });
  });
}

function makeFilter(input) {
  const rows = [...document.getElementById('classes-table').tBodies[0].rows];
  const texts = rows.map((row) => normal(row.cells[0].textContent + ' ' + row.cells[1].textContent));
  const shown = document.getElementById('shown');
  const apply = () => {
    const words = normal(input.value).split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      count += !row.hidden;
    });
    shown.textContent = `${count} of ${rows.length} classes`;
  };
  input.addEventListener('input', apply);
  input.closest('.controls').hidden = false;
  apply();
}

function normal(text) {
  return text.normalize('NFKD').replace(/\p{Mn}/gu, '').toLowerCase();
}

// The mistakes of many classes: a square window of the matrix, drawn in blocks of classes.
function makeOverview(section) {
  if (!section) return;
  const most = 125; // blocks a side
  const {labels, names, mistakes} = JSON.parse(document.getElementById('data').textContent);
  const size = labels.length;
  const canvas = section.querySelector('canvas');
  const readout = section.querySelector('output');
  const [zoomIn, zoomOut, whole] = section.querySelectorAll('button');
  let view = {top: 0, left: 0, span: size};
  let chosen = null; // [row, column] of a block
  let blocks = null;

  const clamp = (x, low, high) => Math.max(low, Math.min(high, x));

  function collect() {
    const step = Math.ceil(view.span / most);
    const side = Math.ceil(view.span / step);
    const counts = new Map();
    let largest = 0;
    for (let i = 0; i < mistakes.length; i += 3) {
      const row = Math.floor((mistakes[i] - view.top) / step);
      const column = Math.floor((mistakes[i + 1] - view.left) / step);
      if (row < 0 || column < 0 || row >= side || column >= side) continue;
      const key = row * side + column;
      const count = (counts.get(key) || 0) + mistakes[i + 2];
      counts.set(key, count);
      largest = Math.max(largest, count);
    }
    blocks = {step, side, counts, largest};
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const pixels = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    if (!pixels) return;
    canvas.width = canvas.height = pixels;
    const context = canvas.getContext('2d');
    const {step, side, counts, largest} = blocks;
    const cell = pixels / side;
    context.fillStyle = color('--panel');
    context.fillRect(0, 0, pixels, pixels);
    // Where right answers would be.
    context.strokeStyle = color('--line');
    const shift = (view.top - view.left) / step * cell;
    context.beginPath();
    context.moveTo(shift, 0);
    context.lineTo(shift + pixels, pixels);
    context.stroke();
    context.fillStyle = color('--miss');
    for (const [key, count] of counts) {
      context.globalAlpha = 0.25 + 0.75 * Math.log(count + 1) / Math.log(largest + 1);
      const x = Math.floor(key % side * cell), y = Math.floor(Math.floor(key / side) * cell);
      context.fillRect(x, y, Math.ceil(cell), Math.ceil(cell));
    }
    context.globalAlpha = 1;
    if (chosen) {
      context.strokeStyle = color('--text');
      context.lineWidth = 2;
      context.strokeRect(chosen[1] * cell - 1, chosen[0] * cell - 1, cell + 2, cell + 2);
    }
  }

  const named = (i) => names[i] === String(labels[i]) ? names[i] : `${names[i]} (${labels[i]})`;

  function range(first, step) {
    const last = Math.min(first + step, size) - 1;
    return first === last ? named(first) : `${named(first)} to ${named(last)}`;
  }

  function describe() {
    if (!chosen) return;
    const {step} = blocks;
    const top = view.top + chosen[0] * step, left = view.left + chosen[1] * step;
    const found = [];
    let count = 0;
    for (let i = 0; i < mistakes.length; i += 3) {
      const [row, column, number] = mistakes.slice(i, i + 3);
      if (row >= top && row < top + step && column >= left && column < left + step) {
        found.push([number, row, column]);
        count += number;
      }
    }
    found.sort((a, b) => b[0] - a[0]);
    const lines = [`True: ${range(top, step)}`, `Predicted: ${range(left, step)}`,
      `${count.toLocaleString('en')} ${count === 1 ? 'mistake' : 'mistakes'}`];
    if (step > 1) {
      for (const [number, row, column] of found.slice(0, 5)) {
        lines.push(`${number} × ${named(row)} taken for ${named(column)}`);
      }
      if (found.length > 5) lines.push(`and ${found.length - 5} more pairs`);
    }
    readout.textContent = lines.join('\n');
  }

  function update() {
    collect();
    if (chosen) chosen = chosen.map((x) => clamp(x, 0, blocks.side - 1));
    draw();
    describe();
    zoomIn.disabled = view.span <= 10;
    zoomOut.disabled = whole.disabled = view.span === size;
  }

  // Changes the span about the chosen block, or about the middle.
  function zoom(span) {
    const {step, side} = blocks;
    const [row, column] = chosen || [side / 2, side / 2];
    const y = view.top + Math.floor(row * step + step / 2);
    const x = view.left + Math.floor(column * step + step / 2);
    span = clamp(Math.round(span), Math.min(10, size), size);
    view = {
      top: clamp(y - Math.floor(span / 2), 0, size - span),
      left: clamp(x - Math.floor(span / 2), 0, size - span),
      span,
    };
    collect();
    if (chosen) chosen = [Math.floor((y - view.top) / blocks.step), Math.floor((x - view.left) / blocks.step)];
    update();
  }

  // Moves the chosen block, and the window with it where it would leave.
  function move(down, right) {
    const {step, side} = blocks;
    const row = chosen ? chosen[0] + down : 0, column = chosen ? chosen[1] + right : 0;
    chosen = [clamp(row, 0, side - 1), clamp(column, 0, side - 1)];
    view.top = clamp(view.top + (row - chosen[0]) * step, 0, size - view.span);
    view.left = clamp(view.left + (column - chosen[1]) * step, 0, size - view.span);
    update();
  }

  function choose(event) {
    const box = canvas.getBoundingClientRect();
    const at = (x) => clamp(Math.floor(x / box.width * blocks.side), 0, blocks.side - 1);
    chosen = [at(event.clientY - box.top), at(event.clientX - box.left)];
    draw();
    describe();
  }

  canvas.addEventListener('pointermove', choose);
  canvas.addEventListener('click', (event) => { choose(event); zoom(view.span / 4); });
  zoomIn.addEventListener('click', () => zoom(view.span / 2));
  zoomOut.addEventListener('click', () => zoom(view.span * 2));
  whole.addEventListener('click', () => zoom(size));
  const keys = {
    ArrowUp: () => move(-1, 0), ArrowDown: () => move(1, 0),
    ArrowLeft: () => move(0, -1), ArrowRight: () => move(0, 1),
    '+': () => zoom(view.span / 2), '=': () => zoom(view.span / 2), Enter: () => zoom(view.span / 2),
    '-': () => zoom(view.span * 2), '0': () => zoom(size), Escape: () => zoom(size),
  };
  canvas.addEventListener('keydown', (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  section.hidden = false;
  update();
  new ResizeObserver(draw).observe(canvas);
  for (const query of ['(prefers-color-scheme: dark)', 'print']) {
    matchMedia(query).addEventListener('change', draw);
  }
}
