'use strict';
(() => {
// Tiles that are laid out at once. The smallest paths beyond share one tile, which can be entered.
const TILES = 5000;
const TABLE_STEP = 200;
const LIST_STEP = 50;
// Paul Tol's "light" scheme: told apart by colour-blind eyes, and pale enough for dark labels.
const HUES = ['#77aadd', '#ee8866', '#44bb99', '#eedd88', '#99ddff', '#ffaabb', '#bbcc33', '#aaaa00'];

const $ = id => document.getElementById(id);
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const count = number => number.toLocaleString('en');
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
const exact = bytes => plural(bytes, 'byte');
const human = bytes => {
  let unit = 0;
  for (; bytes >= 1023.5 && unit < 6; unit++) bytes /= 1024;
  return `${unit ? bytes.toPrecision(Math.max(3, Math.trunc(bytes).toString().length)) : bytes} ${'B,KiB,MiB,GiB,TiB,PiB,EiB'.split(',')[unit]}`;
};
const sum = paths => paths.reduce((total, path) => total + path.nar, 0);

const storeDir = document.body.dataset.storeDir;
const paths = JSON.parse($('rows').textContent).map(([base, nar, closure, root, ...references]) => {
  const name = base.slice(33);
  const family = name.match(/^[^-.\d]+|^[^-]+|.*/)[0].toLowerCase();
  return { base, name, family, nar, closure, root: root === 1, references, referrers: [], found: true };
});
for (const path of paths) {
  path.references = path.references.map(index => paths[index]);
  for (const reference of path.references) reference.referrers.push(path);
}
const total = sum(paths);
const ranked = paths.filter(path => path.nar > 0).sort((a, b) => b.nar - a.nar);

const families = new Map();
for (const path of ranked) families.set(path.family, (families.get(path.family) ?? 0) + path.nar);
const hues = new Map([...families].sort((a, b) => b[1] - a[1]).map(([family], rank) => [family, rank % HUES.length]));

let selected = null;
let words = [];

// ---- The treemap ----

const canvas = $('map');
const context = canvas.getContext('2d');
const tip = $('tip');
let width = 1, height = 1;
let first = 0; // the rank of the largest path that has a tile
let groups = [], tiles = [], tileOf = new Map();
let view = { x: 0, y: 0, k: 1 };
let pointed = null;
let theme = {};
let drawing = 0, flight = 0;

// Squarified (Bruls, Huizing, van Wijk 2000): fills rows along the shorter side for as long as tiles grow squarer.
// `items` come largest first.
function squarify(items, x, y, w, h) {
  const scale = w * h / items.reduce((total, item) => total + item.value, 0);
  for (let start = 0, end; start < items.length; start = end) {
    const side = Math.min(w, h);
    let area = 0, worst = Infinity;
    for (end = start; end < items.length; end++) {
      const next = items[end].value * scale;
      const square = ((area + next) / side) ** 2;
      const ratio = Math.max(items[start].value * scale / square, square / next);
      if (end > start && !(ratio <= worst)) break;
      area += next;
      worst = ratio;
    }
    const depth = side > 0 ? area / side : 0;
    let along = w < h ? x : y;
    for (const item of items.slice(start, end)) {
      const length = depth > 0 ? item.value * scale / depth : 0;
      Object.assign(item, w < h ? { x: along, y, w: length, h: depth } : { x, y: along, w: depth, h: length });
      along += length;
    }
    if (w < h) { y += depth; h = Math.max(0, h - depth); } else { x += depth; w = Math.max(0, w - depth); }
  }
}

function layOut() {
  const byFamily = new Map();
  for (const path of ranked.slice(first, first + TILES)) {
    if (!byFamily.has(path.family)) byFamily.set(path.family, { value: 0, tiles: [] });
    const group = byFamily.get(path.family);
    group.value += path.nar;
    group.tiles.push({ path, group, value: path.nar });
  }
  groups = [...byFamily.values()];
  const rest = ranked.slice(first + TILES);
  if (rest.length) {
    const group = { value: sum(rest) };
    group.tiles = [{ rest, group, value: group.value }];
    groups.push(group);
  }
  groups.sort((a, b) => b.value - a.value);
  squarify(groups, 0, 0, width, height);
  for (const { tiles, x, y, w, h } of groups) squarify(tiles, x, y, w, h);
  tiles = groups.flatMap(group => group.tiles);
  tileOf = new Map(tiles.flatMap(tile => (tile.rest ?? [tile.path]).map(path => [path, tile])));
  pointed = null;
}

const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
const mix = (over, under, share) =>
  `rgb(${rgb(over).map((value, at) => Math.round(value * share + rgb(under)[at] * (1 - share)))})`;

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const read = name => style.getPropertyValue(`--${name}`).trim();
  const full = parseFloat(read('full')) / 100;
  theme = { font: getComputedStyle(document.body).fontFamily };
  for (const name of ['surface', 'text', 'muted', 'reference', 'referrer']) theme[name] = read(name);
  theme.fill = [...HUES, theme.muted].map(hue => mix(hue, theme.surface, hue === theme.muted ? full / 3 : full));
  theme.dim = [...HUES, theme.muted].map(hue => mix(hue, theme.surface, full / 6));
  theme.faint = mix(theme.text, theme.surface, .35);
}

const label = tile => tile.rest ? `… and ${count(tile.rest.length)} more` : tile.path.name;
const place = box => [(box.x - view.x) * view.k, (box.y - view.y) * view.k, box.w * view.k, box.h * view.k];

function isLit(tile) {
  const all = tile.rest ?? [tile.path];
  if (!selected) return !words.length || all.some(path => path.found);
  return all.some(path => path === selected || selected.references.includes(path) || selected.referrers.includes(path));
}

function drawLabel(tile, lit, x, y, w, h) {
  // A label stays in sight while its tile reaches out of it.
  const left = Math.max(x, 0), top = Math.max(y, 0);
  w = Math.min(x + w, width) - left - 12;
  h = Math.min(y + h, height) - top;
  if (w < 26 || h < 18) return;
  const size = Math.max(11, Math.min(17, Math.sqrt(w * h) / 12));
  const write = (text, line) => {
    const full = context.measureText(text).width;
    if (full > w) text = text.slice(0, Math.floor(text.length * w / full) - 1) + '…';
    if (text.length > 2) context.fillText(text, left + 6, top + 5 + line * size * 1.3);
  };
  context.fillStyle = lit ? theme.text : theme.faint;
  context.font = `600 ${size}px ${theme.font}`;
  write(label(tile), 0);
  if (h < size * 2.9 + 6) return;
  context.font = `${size * .92}px ${theme.font}`;
  write(human(tile.value), 1);
}

function outline(tile, colour, thickness, dash = []) {
  if (!tile) return;
  const [x, y, w, h] = place(tile);
  const inset = thickness / 2;
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.setLineDash(dash);
  context.strokeRect(x + inset, y + inset, Math.max(1, w - 1 - thickness), Math.max(1, h - 1 - thickness));
  context.setLineDash([]);
}

function draw() {
  drawing = 0;
  const scale = canvas.width / width;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = 'top';
  const related = new Set(selected && [selected, ...selected.references, ...selected.referrers].map(path => tileOf.get(path)));
  for (const tile of tiles) {
    const [x, y, w, h] = place(tile);
    if (x > width || y > height || x + w < 0 || y + h < 0) continue;
    const lit = selected ? related.has(tile) : isLit(tile);
    context.fillStyle = (lit ? theme.fill : theme.dim)[tile.rest ? HUES.length : hues.get(tile.path.family)];
    context.fillRect(x, y, w - Math.min(1, w / 4), h - Math.min(1, h / 4));
    drawLabel(tile, lit, x, y, w, h);
  }
  context.strokeStyle = theme.surface;
  context.lineWidth = 2;
  for (const [x, y, w, h] of groups.map(place)) if (w > 8 && h > 8) context.strokeRect(x - .5, y - .5, w, h);
  if (selected) {
    for (const path of selected.referrers) outline(tileOf.get(path), theme.referrer, 2, [5, 3]);
    for (const path of selected.references) outline(tileOf.get(path), theme.reference, 2);
    outline(tileOf.get(selected), theme.text, 3);
  }
  outline(pointed, theme.text, 1.5);
}
const redraw = () => { drawing ||= requestAnimationFrame(draw); };

function look(to) {
  const k = Math.min(512, Math.max(1, to.k));
  const within = (value, size) => Math.min(size - size / k, Math.max(0, value));
  view = { x: within(to.x, width), y: within(to.y, height), k };
  $('zoom').value = `${count(Math.round(k * 100))}%`;
  $('out').disabled = k === 1;
  $('reset').disabled = k === 1 && !first;
  canvas.classList.toggle('zoomed', k > 1);
  redraw();
}

const magnified = (factor, x, y) => {
  const k = Math.min(512, Math.max(1, view.k * factor));
  return { x: view.x + x / view.k - x / k, y: view.y + y / view.k - y / k, k };
};

// Moves the visible rectangle evenly, unless the reader wants no motion.
function fly(to) {
  cancelAnimationFrame(flight);
  const from = view, began = performance.now();
  const duration = matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 220;
  const step = now => {
    const time = duration ? Math.min(1, Math.max(0, (now - began) / duration)) : 1;
    const share = time * time * (3 - 2 * time);
    const between = (a, b) => a + (b - a) * share;
    look(time < 1 ? { x: between(from.x, to.x), y: between(from.y, to.y), k: 1 / between(1 / from.k, 1 / to.k) } : to);
    if (time < 1) flight = requestAnimationFrame(step);
  };
  step(began);
}

function flyTo(tile) {
  const fit = box => {
    const k = Math.min(512, .96 * Math.min(width / box.w, height / box.h));
    return { x: box.x + box.w / 2 - width / k / 2, y: box.y + box.h / 2 - height / k / 2, k };
  };
  const group = fit(tile.group);
  fly(group.k > view.k * 1.1 ? group : fit(tile));
}

function start(rank) {
  first = rank;
  layOut();
  point(null);
  look({ x: 0, y: 0, k: 1 });
}

function point(tile, x, y) {
  if (pointed !== tile) redraw();
  pointed = tile;
  tip.hidden = !tile;
  if (!tile) return;
  const sizes = tile.rest ? human(tile.value) : `NAR ${human(tile.value)} · closure ${human(tile.path.closure)}`;
  tip.replaceChildren(make('b', { textContent: label(tile) }), sizes);
  if (tile.rest) tip.append(make('br'), 'Click to look into them');
  const { width: w, height: h } = tip.getBoundingClientRect();
  const left = Math.max(6, Math.min(x + 14, innerWidth - w - 6));
  tip.style.transform = `translate(${left}px, ${y + 18 + h > innerHeight ? y - h - 10 : y + 18}px)`;
}

const at = event => [(event.offsetX / view.k) + view.x, (event.offsetY / view.k) + view.y];
const tileAt = event => {
  const [x, y] = at(event);
  return tiles.find(tile => x >= tile.x && y >= tile.y && x < tile.x + tile.w && y < tile.y + tile.h) ?? null;
};

let entered = -Infinity;
function pick(tile, time) {
  if (tile?.rest) { entered = time; start(first + TILES); } else choose(tile?.path ?? null);
}

const held = new Map();
let dragged = 0;
canvas.addEventListener('pointerdown', event => {
  if (!held.size) dragged = 0;
  held.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', event => {
  const before = held.get(event.pointerId);
  if (!before) {
    if (event.pointerType === 'mouse') point(tileAt(event), event.clientX, event.clientY);
    return;
  }
  const [dx, dy] = [event.offsetX - before.offsetX, event.offsetY - before.offsetY];
  held.set(event.pointerId, event);
  dragged += Math.abs(dx) + Math.abs(dy);
  if (dragged < 6) return;
  point(null);
  const other = [...held.values()].find(pointer => pointer.pointerId !== event.pointerId);
  if (other) {
    const distance = pointer => Math.hypot(pointer.offsetX - other.offsetX, pointer.offsetY - other.offsetY) + 1;
    look(magnified(distance(event) / distance(before), other.offsetX, other.offsetY));
  } else if (view.k > 1) look({ ...view, x: view.x - dx / view.k, y: view.y - dy / view.k });
});
for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, event => held.delete(event.pointerId));
canvas.addEventListener('pointerleave', () => point(null));
canvas.addEventListener('click', event => {
  if (dragged < 6 && event.timeStamp - entered > 500) pick(tileAt(event), event.timeStamp);
});
canvas.addEventListener('dblclick', event => {
  const tile = tileAt(event);
  if (tile && event.timeStamp - entered > 500) flyTo(tile);
});
canvas.addEventListener('wheel', event => {
  // At the end of zooming out, the wheel scrolls the document again.
  if (event.deltaY > 0 && view.k === 1) return;
  event.preventDefault();
  cancelAnimationFrame(flight);
  look(magnified(Math.exp(-event.deltaY * (event.deltaMode ? .06 : .002)), event.offsetX, event.offsetY));
  point(tileAt(event), event.clientX, event.clientY);
}, { passive: false });

const zoomBy = factor => fly(magnified(factor, width / 2, height / 2));
const reset = () => first ? start(0) : fly({ x: 0, y: 0, k: 1 });
$('in').onclick = () => zoomBy(2);
$('out').onclick = () => zoomBy(.5);
$('reset').onclick = reset;

// The nearest tile in a direction: `x` and `y` are -1, 0 or 1.
function neighbour(from, x, y) {
  const centre = box => [box.x + box.w / 2, box.y + box.h / 2];
  const [fromX, fromY] = centre(from);
  let best = from, least = Infinity;
  for (const tile of tiles) {
    const [dx, dy] = [centre(tile)[0] - fromX, centre(tile)[1] - fromY];
    const ahead = dx * x + dy * y, aside = Math.abs(dx * y) + Math.abs(dy * x);
    if (tile !== from && ahead > aside / 2 && ahead + 2 * aside < least) [best, least] = [tile, ahead + 2 * aside];
  }
  return best;
}
canvas.addEventListener('keydown', event => {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const current = pointed ?? tileOf.get(selected);
  if (arrow && tiles.length) {
    const tile = current ? neighbour(current, ...arrow) : tiles[0];
    const [x, y, w, h] = place(tile), box = canvas.getBoundingClientRect();
    if (x < 0 || y < 0 || x + w > width || y + h > height) look({ ...view, x: tile.x + tile.w / 2 - width / view.k / 2, y: tile.y + tile.h / 2 - height / view.k / 2 });
    const [seenX, seenY] = place(tile);
    point(tile, box.left + Math.max(0, seenX), box.top + Math.max(0, seenY));
    say(`${label(tile)}, ${human(tile.value)}`);
  } else if (event.key === 'Enter' && pointed) pick(pointed, event.timeStamp);
  else if (event.key === '+' || event.key === '=') zoomBy(2);
  else if (event.key === '-') zoomBy(.5);
  else if (event.key === '0') reset();
  else return;
  event.preventDefault();
});

// ---- The selected path ----

const say = text => { $('status').textContent = text; };

function links(title, className, all) {
  const list = make('ul');
  const rest = make('button', { type: 'button', className: 'rest' });
  const sorted = [...all].sort((a, b) => b.nar - a.nar);
  let shown = 0;
  rest.onclick = () => {
    for (const path of sorted.slice(shown, shown += LIST_STEP)) {
      const button = make('button', { type: 'button', title: path.base, onclick: () => choose(path) },
        make('span', { textContent: path.name }), make('span', { textContent: human(path.nar), title: exact(path.nar) }));
      list.append(make('li', {}, button));
    }
    rest.hidden = shown >= sorted.length;
    rest.textContent = `Show more of ${count(sorted.length)}`;
  };
  rest.onclick();
  const heading = make('h3', { textContent: `${title} ` }, make('span', { textContent: count(all.length) }));
  return make('div', { className }, heading, all.length ? list : make('p', { className: 'none', textContent: 'none' }), rest);
}

const fact = (term, text, title = '') =>
  make('div', {}, make('dt', { textContent: term }), make('dd', { textContent: text, title }));

function choose(path) {
  selected = path;
  const panel = $('panel'), inside = panel.contains(document.activeElement);
  panel.hidden = !path;
  panel.replaceChildren();
  for (const row of $('body').rows) mark(row);
  redraw();
  if (!path) {
    if (inside) canvas.focus();
    return report();
  }
  const heading = make('h2', { textContent: path.name, tabIndex: -1 });
  const close = make('button', { id: 'close', type: 'button', textContent: '×', onclick: () => choose(null) });
  close.setAttribute('aria-label', 'Close');
  panel.append(heading, make('p', { className: 'path', textContent: `${storeDir}/${path.base}` }),
    make('dl', {}, fact('NAR', human(path.nar), exact(path.nar)), fact('Closure', human(path.closure), exact(path.closure)),
      fact('Share', total ? `${(path.nar / total * 100).toPrecision(2)}%` : '–', 'of the NAR sizes of all paths')),
    make('div', { className: 'links' }, links('References', 'references', path.references), links('Referrers', 'referrers', path.referrers)),
    close);
  panel.scrollTop = 0;
  if (inside) heading.focus();
  say(`Selected ${path.name}: ${plural(path.references.length, 'reference')}, ${plural(path.referrers.length, 'referrer')}`);
}

// ---- The table ----

let order = { key: 'nar', falling: true };
let listed = [];
const rowOf = new WeakMap();

function mark(row) {
  if (rowOf.get(row) === selected) row.setAttribute('aria-current', 'true'); else row.removeAttribute('aria-current');
}

function makeRow(path) {
  const button = make('button', { type: 'button', title: path.base }, make('span', { textContent: path.name }));
  if (path.root) button.append(make('span', { className: 'root', textContent: 'root' }));
  button.style.setProperty('--hue', HUES[hues.get(path.family)] ?? 'currentColor');
  const size = bytes => make('td', { textContent: human(bytes), title: exact(bytes) });
  const row = make('tr', { onclick: () => choose(path) }, make('td', {}, button), size(path.nar), size(path.closure),
    make('td', { textContent: count(path.references.length) }), make('td', { textContent: count(path.referrers.length) }));
  rowOf.set(row, path);
  mark(row);
  return row;
}

function showMore() {
  const body = $('body'), shown = body.rows.length;
  body.append(...listed.slice(shown, shown + TABLE_STEP).map(makeRow));
  const left = listed.length - body.rows.length;
  $('more').hidden = !left;
  $('more').textContent = `Show ${count(Math.min(left, TABLE_STEP))} more of ${count(listed.length)}`;
}

function report() {
  say(words.length ? `${count(listed.length)} of ${plural(paths.length, 'path')}, ${human(sum(listed))}` : plural(paths.length, 'path'));
}

function list() {
  const { key, falling } = order;
  const value = path => path[key].length ?? path[key];
  const compare = key === 'name' ? (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0 : (a, b) => value(a) - value(b);
  listed = paths.filter(path => path.found).sort(falling ? (a, b) => compare(b, a) : compare);
  for (const head of document.querySelectorAll('th')) {
    if (head.firstChild.dataset.key !== key) head.removeAttribute('aria-sort');
    else head.setAttribute('aria-sort', falling ? 'descending' : 'ascending');
  }
  $('body').replaceChildren();
  showMore();
  report();
}
$('more').onclick = showMore;
for (const button of document.querySelectorAll('th button')) button.onclick = () => {
  const { key } = button.dataset;
  order = { key, falling: key === order.key ? !order.falling : key !== 'name' };
  list();
};

$('search').oninput = () => {
  words = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const path of paths) path.found = words.every(word => path.base.toLowerCase().includes(word));
  if (selected) choose(null);
  list();
  redraw();
};

addEventListener('keydown', event => {
  if (event.key === '/' && document.activeElement !== $('search')) $('search').focus();
  else if (event.key !== 'Escape') return;
  else if (selected) choose(null);
  else if ($('search').value) { $('search').value = ''; $('search').oninput(); }
  else reset();
  event.preventDefault();
});

// ---- The beginning ----

const roots = paths.filter(path => path.root).length;
$('totals').append(fact('Paths', count(paths.length)), fact('NAR size', human(total), exact(total)), fact('Roots', count(roots)));
$('empty').hidden = ranked.length > 0;
canvas.setAttribute('aria-label', `${plural(ranked.length, 'path')} by NAR size. Arrow keys go from tile to tile, Enter selects. The table holds the same.`);
list();
readTheme();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readTheme(); redraw(); });
new ResizeObserver(() => {
  const { clientWidth, clientHeight } = canvas;
  if (!clientWidth || !clientHeight) return;
  const [kx, ky] = [clientWidth / width, clientHeight / height];
  [width, height] = [clientWidth, clientHeight];
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  layOut();
  look({ x: view.x * kx, y: view.y * ky, k: view.k });
  cancelAnimationFrame(drawing);
  draw();
}).observe(canvas);
})();
