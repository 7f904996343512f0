'use strict';

// The page is complete without this script; it makes tables sort and filter.

for (const table of document.querySelectorAll('table[data-sort]')) makeSortable(table);
makeFilter(document.getElementById('filter'));

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
