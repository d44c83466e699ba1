'use strict';
// Tiles laid out at once: the smallest paths beyond share one tile, which can be entered.
const TILES = 5000, ROWS = 200, LINKS = 50, NEAREST = 512;
// Paul Tol's "light" scheme: told apart by colour-blind eyes, and pale enough for dark labels.
const HUES = ['#77aadd', '#ee8866', '#44bb99', '#eedd88', '#99ddff', '#ffaabb', '#bbcc33', '#aaaa00'];

const $ = id => document.getElementById(id);
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const text = (tag, textContent, title = '') => make(tag, { textContent, title });
const on = (target, names, act, options) => names.split(' ').forEach(name => target.addEventListener(name, act, options));
const count = number => number.toLocaleString('en');
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
const exact = bytes => plural(bytes, 'byte');
const human = bytes => {
  let unit = 0;
  for (; bytes >= 1023.5 && unit < 6; unit++) bytes /= 1024;
  return `${unit ? bytes.toPrecision(bytes < 999.5 ? 3 : 4) : bytes} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'][unit]}`;
};
const sum = paths => paths.reduce((total, path) => total + path.nar, 0);
const falling = key => (a, b) => b[key] - a[key];
const { min, max, abs, round, hypot } = Math;

const paths = JSON.parse($('rows').textContent).map(([base, nar, closure, root, ...references]) => {
  const name = base.slice(33), family = name.match(/^[^-.\d]+|^[^-]+|.*/)[0].toLowerCase();
  return { base, name, family, nar, closure, root, references, referrers: [], found: true };
});
for (const path of paths) {
  path.references = path.references.map(index => paths[index]);
  for (const reference of path.references) reference.referrers.push(path);
}
const total = sum(paths);
const ranked = paths.filter(path => path.nar).sort(falling('nar'));
const families = new Map();
for (const { family, nar } of ranked) families.set(family, (families.get(family) ?? 0) + nar);
const hues = new Map([...families].sort(falling(1)).map(([family], rank) => [family, rank % HUES.length]));

let selected = null, words = [];

// ---- The treemap ----

const canvas = $('map'), context = canvas.getContext('2d'), tip = $('tip');
let width = 1, height = 1;
let first = 0; // the rank of the largest path that has a tile
let groups = [], tiles = [], tileOf = new Map(), pointed = null;
let view = { x: 0, y: 0, k: 1 }, theme = {}, drawing = 0, flight = 0;

// Squarified (Bruls, Huizing, van Wijk 2000): fills rows along the shorter side for as long as tiles grow squarer.
// `items` come largest first.
function squarify(items, { x, y, w, h }) {
  const scale = w * h / items.reduce((total, item) => total + item.value, 0);
  for (let start = 0, end; start < items.length; start = end) {
    const tall = w < h, side = min(w, h);
    let area = 0, worst = Infinity;
    for (end = start; end < items.length; end++) {
      const next = items[end].value * scale, square = ((area + next) / side) ** 2;
      const ratio = max(items[start].value * scale / square, square / next);
      if (end > start && !(ratio <= worst)) break;
      area += next;
      worst = ratio;
    }
    const depth = area / side || 0;
    let along = tall ? x : y;
    for (const item of items.slice(start, end)) {
      const length = item.value * scale / depth || 0;
      Object.assign(item, tall ? { x: along, y, w: length, h: depth } : { x, y: along, w: depth, h: length });
      along += length;
    }
    if (tall) { y += depth; h = max(0, h - depth); } else { x += depth; w = max(0, w - depth); }
  }
}

function layOut() {
  const found = new Map();
  const add = (key, tile) => {
    if (!found.has(key)) found.set(key, { value: 0, tiles: [] });
    const group = found.get(key);
    group.value += tile.value;
    group.tiles.push({ ...tile, group });
  };
  for (const path of ranked.slice(first, first + TILES)) add(path.family, { all: [path], path, name: path.name, value: path.nar });
  const rest = ranked.slice(first + TILES);
  if (rest.length) add(rest, { all: rest, name: `… and ${count(rest.length)} more`, value: sum(rest) });
  groups = [...found.values()].sort(falling('value'));
  squarify(groups, { x: 0, y: 0, w: width, h: height });
  for (const group of groups) squarify(group.tiles, group);
  tiles = groups.flatMap(group => group.tiles);
  tileOf = new Map(tiles.flatMap(tile => tile.all.map(path => [path, tile])));
  point(null);
}

const mix = (over, under, share) => `rgb(${[1, 3, 5].map(at => {
  const [a, b] = [over, under].map(hex => parseInt(hex.slice(at, at + 2), 16));
  return round(a * share + b * (1 - share));
})})`;

function readTheme() {
  const style = getComputedStyle(document.body);
  for (const name of ['surface', 'text', 'muted', 'reference', 'referrer', 'full']) theme[name] = style.getPropertyValue('--' + name).trim();
  const full = parseFloat(theme.full) / 100;
  const fills = share => [...HUES.map(hue => mix(hue, theme.surface, share)), mix(theme.muted, theme.surface, share / 3)];
  Object.assign(theme, { font: style.fontFamily, fill: fills(full), dim: fills(full / 6), faint: mix(theme.text, theme.surface, .35) });
}

const place = box => [(box.x - view.x) * view.k, (box.y - view.y) * view.k, box.w * view.k, box.h * view.k];

// A label stays in sight while its tile reaches out of it.
function drawLabel(tile, x, y, w, h) {
  const left = max(x, 0) + 6, top = max(y, 0) + 5;
  w = min(x + w, width) - left - 5;
  h = min(y + h, height) - top;
  if (w < 26 || h < 13) return;
  const size = max(11, min(17, Math.sqrt(w * h) / 12));
  context.font = `600 ${size}px ${theme.font}`;
  const share = w / context.measureText(tile.name).width;
  const letters = share < 1 ? Math.floor(tile.name.length * share) - 1 : tile.name.length;
  if (letters < 2) return;
  context.fillText(share < 1 ? tile.name.slice(0, letters) + '…' : tile.name, left, top);
  context.font = `${size * .92}px ${theme.font}`;
  const value = human(tile.value);
  if (h > size * 2.9 && context.measureText(value).width <= w) context.fillText(value, left, top + size * 1.3);
}

function outline(tile, colour, thickness, dash = []) {
  if (!tile) return;
  const [x, y, w, h] = place(tile);
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.setLineDash(dash);
  context.strokeRect(x + thickness / 2, y + thickness / 2, max(1, w - 1 - thickness), max(1, h - 1 - thickness));
}

function draw() {
  drawing = 0;
  const scale = canvas.width / width;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = 'top';
  const related = selected && new Set([selected, ...selected.references, ...selected.referrers].map(path => tileOf.get(path)));
  for (const tile of tiles) {
    const [x, y, w, h] = place(tile);
    if (x > width || y > height || x + w < 0 || y + h < 0) continue;
    const lit = related ? related.has(tile) : tile.all.some(path => path.found);
    context.fillStyle = (lit ? theme.fill : theme.dim)[tile.path ? hues.get(tile.path.family) : HUES.length];
    context.fillRect(x, y, w - min(1, w / 4), h - min(1, h / 4));
    context.fillStyle = lit ? theme.text : theme.faint;
    drawLabel(tile, x, y, w, h);
  }
  for (const { x, y, w, h } of groups) {
    if (min(w, h) * view.k > 8) outline({ x: x - 1.5 / view.k, y: y - 1.5 / view.k, w: w + 3 / view.k, h: h + 3 / view.k }, theme.surface, 2);
  }
  if (selected) {
    for (const path of selected.referrers) outline(tileOf.get(path), theme.referrer, 2, [5, 3]);
    for (const path of selected.references) outline(tileOf.get(path), theme.reference, 2);
    outline(tileOf.get(selected), theme.text, 3);
  }
  outline(pointed, theme.text, 1.5);
}
const redraw = () => { drawing ||= requestAnimationFrame(draw); };

function look({ x, y, k }) {
  k = min(NEAREST, max(1, k));
  view = { x: min(width - width / k, max(0, x)), y: min(height - height / k, max(0, y)), k };
  $('zoom').value = `${count(round(k * 100))}%`;
  $('out').disabled = k === 1;
  $('reset').disabled = k === 1 && !first;
  canvas.classList.toggle('zoomed', k > 1);
  redraw();
}

const magnified = (factor, x, y) => {
  const k = min(NEAREST, max(1, view.k * factor));
  return { x: view.x + x / view.k - x / k, y: view.y + y / view.k - y / k, k };
};
const centred = (box, k) => ({ x: box.x + box.w / 2 - width / k / 2, y: box.y + box.h / 2 - height / k / 2, k });

// Moves the visible rectangle evenly, unless the reader wants no motion.
function fly(to) {
  cancelAnimationFrame(flight);
  const from = view, began = performance.now();
  const duration = matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 220;
  const step = now => {
    const time = (now - began) / duration;
    if (!(time < 1)) return look(to);
    const share = max(0, time) ** 2 * (3 - 2 * time), between = (a, b) => a + (b - a) * share;
    look({ x: between(from.x, to.x), y: between(from.y, to.y), k: 1 / between(1 / from.k, 1 / to.k) });
    flight = requestAnimationFrame(step);
  };
  step(began);
}

// Into the tile's group, and from there into the tile.
function flyTo(tile) {
  const [group, own] = [tile.group, tile].map(box => centred(box, min(NEAREST, .96 * min(width / box.w, height / box.h))));
  fly(group.k > view.k * 1.1 ? group : own);
}

function point(tile, x, y) {
  if (pointed !== tile) redraw();
  pointed = tile;
  tip.hidden = !tile;
  if (!tile) return;
  tip.replaceChildren(text('b', tile.name),
    tile.path ? `NAR ${human(tile.value)} · closure ${human(tile.path.closure)}` : `${human(tile.value)} · click to look into them`);
  const { width: w, height: h } = tip.getBoundingClientRect();
  tip.style.transform = `translate(${max(6, min(x + 14, innerWidth - w - 6))}px, ${y + 18 + h > innerHeight ? y - h - 10 : y + 18}px)`;
}

const tileAt = event => {
  const x = event.offsetX / view.k + view.x, y = event.offsetY / view.k + view.y;
  return tiles.find(tile => x >= tile.x && y >= tile.y && x < tile.x + tile.w && y < tile.y + tile.h) ?? null;
};

let entered = -1e9;
function enter(rank) {
  first = rank;
  layOut();
  look({ x: 0, y: 0, k: 1 });
}
function pick(tile, time) {
  if (!tile || tile.path) return choose(tile && tile.path);
  entered = time; // the second click of two shall not hit what is there now
  enter(first + TILES);
}

const held = new Map();
let dragged = 0;
on(canvas, 'pointerdown', event => {
  if (!held.size) dragged = 0;
  held.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
});
on(canvas, 'pointermove', event => {
  const before = held.get(event.pointerId);
  if (!before) {
    if (event.pointerType === 'mouse') point(tileAt(event), event.clientX, event.clientY);
    return;
  }
  const dx = event.offsetX - before.offsetX, dy = event.offsetY - before.offsetY;
  held.set(event.pointerId, event);
  dragged += abs(dx) + abs(dy);
  if (dragged < 6) return;
  point(null);
  const other = [...held.values()].find(pointer => pointer.pointerId !== event.pointerId);
  if (other) {
    const [now, then] = [event, before].map(at => hypot(at.offsetX - other.offsetX, at.offsetY - other.offsetY) + 1);
    look(magnified(now / then, other.offsetX, other.offsetY));
  } else look({ x: view.x - dx / view.k, y: view.y - dy / view.k, k: view.k });
});
on(canvas, 'pointerup pointercancel', event => held.delete(event.pointerId));
on(canvas, 'pointerleave blur', () => point(null));
on(canvas, 'click dblclick', event => {
  if (dragged > 5 || event.timeStamp - entered < 500) return;
  const tile = tileAt(event);
  if (event.type === 'click') pick(tile, event.timeStamp); else if (tile) flyTo(tile);
});
on(canvas, 'wheel', event => {
  if (event.deltaY > 0 && view.k === 1) return; // all is in sight: the wheel scrolls the document
  event.preventDefault();
  cancelAnimationFrame(flight);
  look(magnified(Math.exp(event.deltaY * (event.deltaMode ? -.06 : -.002)), event.offsetX, event.offsetY));
  point(tileAt(event), event.clientX, event.clientY);
}, { passive: false });

const zoomBy = factor => fly(magnified(factor, width / 2, height / 2));
const reset = () => first ? enter(0) : fly({ x: 0, y: 0, k: 1 });
const keys = { '+': () => zoomBy(2), '=': () => zoomBy(2), '-': () => zoomBy(.5), 0: reset };
$('in').onclick = keys['+'];
$('out').onclick = keys['-'];
$('reset').onclick = reset;

// To the nearest tile in a direction: `x` and `y` are -1, 0 or 1.
function step(x, y) {
  const from = pointed ?? tileOf.get(selected), bounds = canvas.getBoundingClientRect();
  let best = from ?? tiles[0], least = Infinity;
  for (const tile of from ? tiles : []) {
    const dx = tile.x - from.x + (tile.w - from.w) / 2, dy = tile.y - from.y + (tile.h - from.h) / 2;
    const ahead = dx * x + dy * y, aside = abs(dx * y) + abs(dy * x);
    if (tile !== from && ahead > aside / 2 && ahead + 2 * aside < least) [best, least] = [tile, ahead + 2 * aside];
  }
  if (!best) return;
  const [left, top, w, h] = place(best);
  if (left < 0 || top < 0 || left + w > width || top + h > height) look(centred(best, view.k));
  const [seenX, seenY] = place(best);
  point(best, bounds.left + max(0, seenX), bounds.top + max(0, seenY));
  say(`${best.name}, ${human(best.value)}`);
}
Object.assign(keys, { ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1) });
on(canvas, 'keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = event.key === 'Enter' ? pointed && (() => pick(pointed, event.timeStamp)) : keys[event.key];
  if (!act) return;
  act();
  event.preventDefault();
});

// ---- The selected path ----

const say = message => { $('status').textContent = message; };
const fact = (term, value, title) => make('div', {}, text('dt', term), text('dd', value, title));

function links(title, className, linked) {
  const all = [...linked].sort(falling('nar')), list = make('ul'), rest = make('button', { className: 'rest' });
  let shown = 0;
  rest.onclick = () => {
    for (const path of all.slice(shown, shown += LINKS)) {
      list.append(make('li', {}, make('button', { title: path.base, onclick: () => choose(path) },
        text('span', path.name), text('span', human(path.nar), exact(path.nar)))));
    }
    rest.hidden = shown >= all.length;
    rest.textContent = `Show more of ${count(all.length)}`;
  };
  rest.onclick();
  return make('div', { className }, make('h3', {}, title, text('span', count(all.length))), list, rest);
}

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
  panel.append(heading, make('p', { className: 'path', textContent: `${document.body.dataset.storeDir}/${path.base}` }),
    make('dl', {}, fact('NAR', human(path.nar), exact(path.nar)), fact('Closure', human(path.closure), exact(path.closure)),
      fact('Share', `${(path.nar / (total || 1) * 100).toFixed(2)}%`, 'of the NAR sizes of all paths')),
    make('div', { className: 'links' }, links('References', 'references', path.references), links('Referrers', 'referrers', path.referrers)),
    make('button', { id: 'close', textContent: '×', ariaLabel: 'Close', onclick: () => choose(null) }));
  panel.scrollTop = 0;
  if (inside) heading.focus();
  say(`Selected ${path.name}: ${plural(path.references.length, 'reference')}, ${plural(path.referrers.length, 'referrer')}`);
}

// ---- The table ----

let order = 'nar', upwards = false, listed = [];
const pathOf = new WeakMap();
const mark = row => { row.ariaCurrent = pathOf.get(row) === selected ? 'true' : null; };

function makeRow(path) {
  const button = make('button', { title: path.base }, text('span', path.name));
  if (path.root) button.append(make('span', { className: 'root', textContent: 'root' }));
  button.style.setProperty('--hue', HUES[hues.get(path.family)] ?? 'gray');
  const row = make('tr', { onclick: () => choose(path) }, make('td', {}, button), text('td', human(path.nar), exact(path.nar)),
    text('td', human(path.closure), exact(path.closure)), text('td', count(path.references.length)), text('td', count(path.referrers.length)));
  pathOf.set(row, path);
  mark(row);
  return row;
}

function showMore() {
  const { rows } = $('body');
  $('body').append(...listed.slice(rows.length, rows.length + ROWS).map(makeRow));
  const left = listed.length - rows.length;
  $('more').hidden = !left;
  $('more').textContent = `Show ${count(min(left, ROWS))} more of ${count(listed.length)}`;
}
$('more').onclick = showMore;

const report = () =>
  say(words.length ? `${count(listed.length)} of ${plural(paths.length, 'path')}, ${human(sum(listed))}` : plural(paths.length, 'path'));

const heads = [...document.querySelectorAll('th')], keyOf = head => head.firstChild.dataset.key;
function list() {
  const value = path => path[order].length ?? path[order];
  const compare = order === 'name' ? (a, b) => a.name < b.name ? -1 : +(a.name > b.name) : (a, b) => value(a) - value(b);
  listed = paths.filter(path => path.found).sort(upwards ? compare : (a, b) => compare(b, a));
  for (const head of heads) head.ariaSort = keyOf(head) === order ? upwards ? 'ascending' : 'descending' : null;
  $('body').replaceChildren();
  showMore();
  report();
}
for (const head of heads) head.firstChild.onclick = () => {
  upwards = order === keyOf(head) ? !upwards : keyOf(head) === 'name';
  order = keyOf(head);
  list();
};

const search = $('search');
search.oninput = () => {
  words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const path of paths) path.found = words.every(word => path.base.toLowerCase().includes(word));
  if (selected) choose(null);
  list();
  redraw();
};

on(window, 'keydown', event => {
  if (event.key === '/' && document.activeElement !== search) search.focus();
  else if (event.key !== 'Escape') return;
  else if (selected) choose(null);
  else if (search.value) { search.value = ''; search.oninput(); }
  else reset();
  event.preventDefault();
});

// ---- The beginning ----

$('totals').append(fact('Paths', count(paths.length)), fact('NAR size', human(total), exact(total)),
  fact('Roots', count(paths.filter(path => path.root).length)));
$('empty').hidden = ranked.length > 0;
canvas.ariaLabel = `${plural(ranked.length, 'path')} by NAR size. Arrow keys go from tile to tile, Enter selects. The table holds the same.`;
list();
readTheme();
on(matchMedia('(prefers-color-scheme: dark)'), 'change', () => { readTheme(); redraw(); });
new ResizeObserver(() => {
  const { clientWidth, clientHeight } = canvas;
  if (!clientWidth || !clientHeight) return;
  const x = view.x * clientWidth / width, y = view.y * clientHeight / height;
  [width, height] = [clientWidth, clientHeight];
  canvas.width = round(width * devicePixelRatio);
  canvas.height = round(height * devicePixelRatio);
  layOut();
  look({ x, y, k: view.k });
  cancelAnimationFrame(drawing);
  draw();
}).observe(canvas);
