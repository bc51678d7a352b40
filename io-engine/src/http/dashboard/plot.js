// Plots of two lines, reads and writes, over the last rounds.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 460;
const HEIGHT = 170;
const MARGIN = { left: 66, right: 8, top: 12, bottom: 20 };

// A number in short: 1234567 is 1.23M.
function short(value, units, step) {
  let unit = 0;
  while (Math.abs(value) >= step && unit < units.length - 1) { value /= step; unit += 1; }
  const digits = value >= 100 || value === 0 || (unit === 0 && Number.isInteger(value)) ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(digits) + units[unit];
}

const count = (value) => short(value, ['', 'k', 'M', 'G'], 1000);
const bytes = (value) => short(value, [' B', ' KiB', ' MiB', ' GiB', ' TiB', ' PiB'], 1024);
const rateOfBytes = (value) => `${bytes(value)}/s`;
const duration = (seconds) => (seconds === null ? '–' : short(seconds * 1e9, [' ns', ' µs', ' ms', ' s'], 1000));
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

const PLOTS = [
  { id: 'plot-iops', title: 'I/Os per second', figure: 'iops', show: count },
  { id: 'plot-throughput', title: 'Throughput', figure: 'throughput', show: rateOfBytes, step: 1024 },
  { id: 'plot-latency', title: 'Mean latency', figure: 'latency', show: duration },
];

function shape(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

// The next of 1, 2, 5 times a power of ten that is not below a value, in the unit that it is shown
// in: units are `step` apart.
function ceiling(value, step) {
  if (!(value > 0)) return 1;
  let unit = 1;
  while (step === 1024 && value >= unit * step) unit *= step;
  const power = 10 ** Math.floor(Math.log10(value / unit)) * unit;
  return [1, 2, 5, 10].map((times) => times * power).find((top) => top >= value);
}

class Plot {
  constructor({ id, title, figure, show, step }) {
    Object.assign(this, { figure, show, step, points: [], at: null });
    this.root = document.getElementById(id);
    const caption = document.createElement('figcaption');
    this.legend = document.createElement('span');
    this.legend.className = 'legend';
    const name = document.createElement('strong');
    name.textContent = title;
    caption.append(name, this.legend);
    this.svg = shape('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title,
    });
    this.root.append(caption, this.svg);
    this.svg.addEventListener('pointermove', (event) => this.point(event));
    this.svg.addEventListener('pointerleave', () => { this.at = null; this.draw(); });
  }

  // The pointer chooses a point; its values stand in the legend.
  point(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const share = (x - MARGIN.left) / (WIDTH - MARGIN.left - MARGIN.right);
    const index = Math.round(share * (POINTS - 1)) - (POINTS - this.points.length);
    this.at = index >= 0 && index < this.points.length ? index : null;
    this.draw();
  }

  update(points) {
    this.points = points;
    this.draw();
  }

  draw() {
    const { points, figure, svg } = this;
    // As wide as it is shown, so that text is not stretched.
    const width = Math.max(svg.clientWidth, 200);
    svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const value = (point, kind) => point[kind][figure];
    const values = points.flatMap((point) => [value(point, 'read'), value(point, 'write')]);
    const top = ceiling(Math.max(0, ...values.filter((one) => one !== null)), this.step);
    const x = (index) => MARGIN.left
      + ((POINTS - points.length + index) / (POINTS - 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (one) => HEIGHT - MARGIN.bottom - (one / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    svg.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const at = y(part * top);
      shape('line', { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at, class: 'grid' }, svg);
      const label = shape('text', { x: MARGIN.left - 6, y: at + 4, 'text-anchor': 'end' }, svg);
      label.textContent = this.show(part * top);
    }
    this.times(width, x);
    for (const kind of ['read', 'write']) {
      let path = '';
      let pen = 'M';
      points.forEach((point, index) => {
        const one = value(point, kind);
        if (one === null) { pen = 'M'; return; }
        path += `${pen}${x(index).toFixed(1)} ${y(one).toFixed(1)}`;
        pen = 'L';
      });
      shape('path', { d: path, class: `line ${kind}` }, svg);
    }
    const shown = this.at === null ? points.length - 1 : this.at;
    if (this.at !== null) {
      const at = x(this.at);
      shape('line', { x1: at, x2: at, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: 'cursor' }, svg);
    }
    this.legend.replaceChildren();
    for (const kind of ['read', 'write']) {
      const key = document.createElement('i');
      key.className = `key ${kind}`;
      const one = points[shown] ? value(points[shown], kind) : null;
      this.legend.append(key, `${kind} ${one === null ? '–' : this.show(one)}`);
    }
  }

  times(width, x) {
    const { points } = this;
    if (points.length < 2) return;
    const label = (index, anchor) => {
      const ago = Math.round((points[points.length - 1].at - points[index].at) / 1000);
      const text = shape('text', { x: x(index), y: HEIGHT - 4, 'text-anchor': anchor }, this.svg);
      text.textContent = ago === 0 ? 'now' : `${ago} s ago`;
    };
    label(points.length - 1, 'end');
    // Beside "now" there is room for another only when it is far enough away.
    if (x(points.length - 1) - x(0) > 90) label(0, 'start');
  }
}

