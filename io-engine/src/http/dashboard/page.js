// The page: tiles, tables, keys, and the rounds.

const element = (id) => document.getElementById(id);
const page = { device: '', interval: 1000, paused: false, plots: [], timer: 0 };

// A cell: text, or an object with text, class and title, or a node.
function cell(content, number) {
  const td = document.createElement('td');
  if (number) td.className = 'number';
  if (content instanceof Node) td.append(content);
  else if (content && typeof content === 'object') {
    td.textContent = content.text;
    if (content.class) td.className += ` ${content.class}`;
    if (content.title) td.title = content.title;
  } else td.textContent = content === null || content === undefined ? '–' : String(content);
  return td;
}

// Fills a section with a table. Columns that begin with # hold numbers. The focus stays on the same
// button of the same row.
function table(id, columns, rows, words) {
  const place = element(id);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  if (rows.length === 0) {
    const none = document.createElement('p');
    none.className = 'none';
    none.textContent = words;
    place.replaceChildren(none);
    return;
  }
  const made = document.createElement('table');
  const head = made.createTHead().insertRow();
  for (const column of columns) {
    const th = document.createElement('th');
    th.scope = 'col';
    th.textContent = column.replace('#', '');
    if (column.startsWith('#')) th.className = 'number';
    head.append(th);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const tr = body.insertRow();
    if (row.chosen) tr.className = 'chosen';
    row.cells.forEach((content, index) => tr.append(cell(content, columns[index].startsWith('#'))));
  }
  place.replaceChildren(made);
  if (focused !== undefined) {
    const again = [...place.querySelectorAll('button')].find((button) => button.dataset.key === focused);
    if (again) again.focus();
  }
}

// The list of an answer, or none with the reason.
function listOf(key) {
  const answer = model.answers[key];
  return Array.isArray(answer) ? [answer, ''] : [[], answer instanceof Error ? answer.message : ''];
}

function tiles() {
  const points = model.history[''] || [];
  const last = points[points.length - 1];
  const reactors = Object.values(model.reactors);
  const [bdevs] = listOf('bdevs');
  const stat = (kind, figure) => (last ? last[kind][figure] : 0);
  const busy = reactors.length ? reactors.reduce((sum, one) => sum + one.busy, 0) / reactors.length : 0;
  const values = [
    ['Reads per second', count(stat('read', 'iops'))],
    ['Writes per second', count(stat('write', 'iops'))],
    ['Throughput', rateOfBytes(stat('read', 'throughput') + stat('write', 'throughput'))],
    ['Reactors busy', percent(busy)],
    ['Devices', String(bdevs.length)],
  ];
  element('tiles').replaceChildren(...values.map(([name, value]) => {
    const tile = document.createElement('div');
    tile.className = 'tile';
    const label = document.createElement('span');
    const strong = document.createElement('strong');
    label.textContent = name;
    strong.textContent = value;
    tile.append(label, strong);
    return tile;
  }));
}

function devices() {
  const [bdevs, trouble] = listOf('bdevs');
  const stats = model.answers.iostat instanceof Error ? null : model.answers.iostat;
  const figures = new Map(((stats && stats.bdevs) || []).map((one) => [one.name, one]));
  const hz = (stats && stats.tick_rate) || 1;
  const rows = bdevs.map((bdev) => {
    const rate = model.rates[bdev.name];
    const errors = Object.values((figures.get(bdev.name) || {}).io_error || {}).reduce((sum, one) => sum + one, 0);
    const choose = document.createElement('button');
    choose.type = 'button';
    choose.textContent = bdev.name;
    choose.dataset.key = bdev.name;
    choose.title = 'plot this device';
    choose.addEventListener('click', () => select(page.device === bdev.name ? '' : bdev.name));
    const of = (kind, make) => (rate ? make(rate[kind]) : '–');
    return {
      chosen: page.device === bdev.name,
      cells: [
        choose, bdev.driver || bdev.product_name, bytes(bdev.block_size * bdev.num_blocks), bdev.block_size,
        of('read', (one) => count(one.ops)), of('write', (one) => count(one.ops)),
        of('read', (one) => rateOfBytes(one.bytes)), of('write', (one) => rateOfBytes(one.bytes)),
        of('read', (one) => duration(latency(one, hz))), of('write', (one) => duration(latency(one, hz))),
        errors ? { text: count(errors), class: 'bad' } : '0',
        bdev.claimed ? bdev.claimed_by || 'claimed' : '–',
      ],
    };
  });
  table('devices', ['Name', 'Driver', '#Size', '#Block', '#Reads/s', '#Writes/s', '#Read', '#Written',
    '#Read latency', '#Write latency', '#Errors', 'Claimed by'], rows, trouble || 'There are no devices.');
  const options = ['', ...bdevs.map((bdev) => bdev.name)];
  const list = element('device');
  if (options.join('\n') !== [...list.options].map((option) => option.value).join('\n')) {
    list.replaceChildren(...options.map((name) => new Option(name || 'all devices', name)));
    if (!options.includes(page.device)) page.device = '';
    list.value = page.device;
  }
}

function reactors() {
  const answer = model.answers.threads;
  const threads = answer && answer.threads ? answer.threads : [];
  const rows = threads.map((thread) => {
    const rate = model.reactors[thread.name];
    const bar = document.createElement('progress');
    bar.value = rate ? rate.busy : 0;
    const busy = document.createElement('span');
    busy.append(bar, ` ${rate ? percent(rate.busy) : '–'}`);
    return { cells: [
      thread.name, busy, rate ? percent(rate.asleep) : '–', rate ? count(rate.turns) : '–',
      rate ? count(rate.entries) : '–', thread.active_pollers_count, thread.timed_pollers_count,
      thread.stalls ? { text: count(thread.stalls), class: 'warn' } : '0',
    ] };
  });
  table('reactors', ['Name', 'Busy', '#Asleep', '#Turns/s', '#Kernel entries/s', '#Pollers', '#Timed', '#Stalls'],
    rows, answer instanceof Error ? answer.message : 'There are no reactors.');
}

function pools() {
  const [list, trouble] = listOf('pools');
  table('pools', ['Name', 'Device', '#Size', 'Used', '#Available', 'Digest', '#Volumes', '#Snapshots', 'Scrub', 'State'],
    list.map((pool) => {
      const bar = document.createElement('progress');
      bar.max = pool.size_bytes || 1;
      bar.value = pool.size_bytes - pool.free_bytes;
      const used = document.createElement('span');
      used.append(bar, ` ${bytes(pool.size_bytes - pool.free_bytes)}`);
      const scrub = pool.scrub && typeof pool.scrub === 'object' ? pool.scrub.state : pool.scrub;
      return { cells: [
        pool.name, pool.base_bdev, bytes(pool.size_bytes), used, bytes(pool.available_bytes), pool.digest,
        pool.volumes, pool.snapshots, scrub,
        pool.read_only ? { text: `read-only: ${pool.read_only}`, class: 'bad' } : 'ok',
      ] };
    }), trouble || 'There are no pools.');
  const [volumes] = listOf('volumes');
  element('volumes').closest('section').hidden = volumes.length === 0;
  table('volumes', ['Name', 'Kind', '#Size', '#Mapped', 'Thin', 'Made from'], volumes.map((volume) => ({ cells: [
    volume.device || volume.name, volume.snapshot ? 'snapshot' : 'volume', bytes(volume.size_bytes),
    bytes(volume.mapped_bytes), volume.thin ? 'yes' : 'no', volume.parent,
  ] })), 'There are no volumes.');
}

function subsystems() {
  const [list, trouble] = listOf('subsystems');
  const shown = list.filter((one) => one.subtype !== 'Discovery');
  table('subsystems', ['Name', 'Listens at', 'Namespaces', '#Hosts connected', 'Hosts'], shown.map((one) => {
    const hosts = model.hosts[one.nqn] || [];
    const spaces = (one.namespaces || []).map((space) => `${space.nsid}: ${space.bdev_name}`);
    return { cells: [
      one.nqn,
      (one.listen_addresses || []).map((at) => `${at.trtype} ${at.traddr}:${at.trsvcid}`).join(', ') || '–',
      spaces.join(', ') || '–', hosts.length,
      hosts.map((host) => host.hostnqn).join(', ') || (one.allow_any_host ? 'any may connect' : '–'),
    ] };
  }), trouble || 'Nothing is exported.');
}

// What other versions know more of is shown as it is: a column per member.
function generic(id, list, words) {
  const columns = [];
  for (const one of list) {
    for (const key of Object.keys(one)) if (!columns.includes(key)) columns.push(key);
  }
  const text = (value) => (value !== null && typeof value === 'object' ? JSON.stringify(value) : value);
  table(id, columns, list.map((one) => ({ cells: columns.map((key) => text(one[key])) })), words);
}

function extras() {
  for (const [id, key, list, words] of [
    ['injections', 'injections', listOf('injections')[0], 'No fault is injected.'],
    ['events', 'events', model.events, 'Nothing has happened yet.'],
  ]) {
    const there = key in model.answers;
    element(id).closest('section').hidden = !there;
    if (there) generic(id, list, model.answers[key] instanceof Error ? model.answers[key].message : words);
  }
}

function state() {
  const place = element('state');
  place.className = model.trouble ? 'trouble' : 'ok';
  const words = model.trouble || (page.paused ? 'paused' : 'running');
  if (element('state-text').textContent !== words) element('state-text').textContent = words;
  element('version').textContent = model.version;
}

function render() {
  state();
  if (model.trouble) return;
  tiles();
  devices();
  reactors();
  pools();
  subsystems();
  extras();
  for (const plot of page.plots) plot.update(model.history[page.device] || []);
  document.body.dataset.rounds = String(Number(document.body.dataset.rounds || 0) + 1);
}

function select(name) {
  page.device = name;
  element('device').value = name;
  render();
}

async function round() {
  clearTimeout(page.timer);
  if (!page.paused && !document.hidden) {
    try {
      await ask();
      model.trouble = '';
    } catch (error) {
      model.trouble = `no answer: ${error.message}`;
      // Another process may answer next, with other methods and from zero.
      model.methods = null;
      model.previous = null;
    }
    render();
  }
  page.timer = setTimeout(round, page.interval);
}

function pause() {
  page.paused = !page.paused;
  element('pause').setAttribute('aria-pressed', String(page.paused));
  element('pause').textContent = page.paused ? 'Go on' : 'Pause';
  // What was not seen is no part of the next rate.
  model.previous = null;
  state();
}

function theme() {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const now = document.documentElement.dataset.theme || (dark ? 'dark' : 'light');
  document.documentElement.dataset.theme = now === 'dark' ? 'light' : 'dark';
}

function start() {
  page.plots = PLOTS.map((plot) => new Plot(plot));
  element('device').addEventListener('change', (event) => select(event.target.value));
  element('interval').addEventListener('change', (event) => { page.interval = Number(event.target.value); });
  element('pause').addEventListener('click', pause);
  element('theme').addEventListener('click', theme);
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'SELECT') return;
    if (event.key === 'p') pause();
    else if (event.key === 't') theme();
    else if (event.key === 'd') { element('device').focus(); event.preventDefault(); }
  });
  document.addEventListener('visibilitychange', () => { if (!document.hidden) round(); });
  round();
}

start();
