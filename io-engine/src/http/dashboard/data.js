'use strict';
// Asking the engine, and making rates of its counters.

// Calls of one round, and what they answer. The names of methods that the engine does not have are
// dropped once it has said which it has.
const WANTED = [
  ['bdevs', 'bdev_get_bdevs', {}],
  ['iostat', 'bdev_get_iostat', {}],
  ['threads', 'thread_get_stats', {}],
  ['pools', 'pool_get', {}],
  ['volumes', 'vol_get', {}],
  ['subsystems', 'nvmf_get_subsystems', {}],
  ['injections', 'fault_injection_list', {}],
  ['events', 'notify_get_notifications', { id: 0, max: 100 }],
];

const POINTS = 120;
const EVENTS_SHOWN = 50;

const model = {
  methods: null, version: '', hosts: {}, answers: {}, rates: {}, reactors: {}, history: {}, events: [],
  previous: null, trouble: '',
};

// Calls methods in one request; gives the results in order, or the errors as Error objects.
async function call(calls) {
  const batch = calls.map(([method, params], id) => ({ jsonrpc: '2.0', id, method, params }));
  const response = await fetch('rpc', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(batch),
    cache: 'no-store',
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  const answers = await response.json();
  if (!Array.isArray(answers)) throw new Error(answers.error ? answers.error.message : 'no answer');
  const results = new Array(calls.length).fill(new Error('no answer'));
  for (const answer of answers) {
    results[answer.id] = answer.error ? new Error(answer.error.message) : answer.result;
  }
  return results;
}

// The change of a counter; one that began anew counts from zero.
const growth = (now, before) => (before === undefined || now < before ? now : now - before);

// Rates of a device between two rounds, per second; latencies in seconds.
function deviceRates(now, before, seconds) {
  const rate = {};
  for (const [kind, bytes] of [['read', 'bytes_read'], ['write', 'bytes_written']]) {
    const ops = growth(now[`num_${kind}_ops`], before[`num_${kind}_ops`]);
    const ticks = growth(now[`${kind}_latency_ticks`], before[`${kind}_latency_ticks`]);
    rate[kind] = {
      ops: ops / seconds,
      bytes: growth(now[bytes], before[bytes]) / seconds,
      // Kept as sums, so that devices can be added up.
      ticks: ticks / seconds,
    };
  }
  return rate;
}

function addRates(all) {
  const sum = { read: { ops: 0, bytes: 0, ticks: 0 }, write: { ops: 0, bytes: 0, ticks: 0 } };
  for (const rate of all) {
    for (const kind of ['read', 'write']) {
      for (const figure of ['ops', 'bytes', 'ticks']) sum[kind][figure] += rate[kind][figure];
    }
  }
  return sum;
}

// Mean latency in seconds; none when nothing was done.
const latency = (rate, hz) => (rate.ops > 0 ? rate.ticks / rate.ops / hz : null);

// A point of the plots.
function point(rate, hz, at) {
  const of = (kind) => ({
    iops: rate[kind].ops, throughput: rate[kind].bytes, latency: latency(rate[kind], hz),
  });
  return { at, read: of('read'), write: of('write') };
}

// Makes rates of the counters of this round and the one before.
function compare(answers, at) {
  const { iostat, threads } = answers;
  const before = model.previous;
  model.previous = { iostat, threads };
  if (!before || !before.iostat || !iostat || iostat instanceof Error || before.iostat instanceof Error) return;
  const hz = iostat.tick_rate;
  const seconds = (iostat.ticks - before.iostat.ticks) / hz;
  if (!(seconds > 0)) return;
  const old = new Map(before.iostat.bdevs.map((bdev) => [bdev.name, bdev]));
  model.rates = {};
  for (const bdev of iostat.bdevs) {
    // What was not there before has no rate yet.
    if (old.has(bdev.name)) model.rates[bdev.name] = deviceRates(bdev, old.get(bdev.name), seconds);
  }
  const everything = addRates(Object.values(model.rates));
  for (const [name, rate] of [['', everything], ...Object.entries(model.rates)]) {
    const points = model.history[name] || (model.history[name] = []);
    points.push(point(rate, hz, at));
    if (points.length > POINTS) points.shift();
  }
  for (const name of Object.keys(model.history)) {
    if (name !== '' && !(name in model.rates)) delete model.history[name];
  }
  if (threads && !(threads instanceof Error)) reactorRates(threads, before.threads, seconds);
}

function reactorRates(threads, before, seconds) {
  const old = new Map(((before && before.threads) || []).map((thread) => [thread.name, thread]));
  model.reactors = {};
  for (const thread of threads.threads) {
    const earlier = old.get(thread.name);
    if (!earlier) continue;
    const busy = growth(thread.busy, earlier.busy);
    const idle = growth(thread.idle, earlier.idle);
    const asleep = growth(thread.sleep_ticks, earlier.sleep_ticks);
    const whole = Math.max(busy + idle, 1);
    model.reactors[thread.name] = {
      busy: busy / whole,
      asleep: Math.min(asleep / whole, 1),
      turns: growth(thread.turns, earlier.turns) / seconds,
      entries: growth(thread.kernel_entries, earlier.kernel_entries) / seconds,
    };
  }
}

// Takes new events: those after the last one that is known.
function takeEvents(events) {
  if (!Array.isArray(events)) return;
  for (const event of events) {
    model.events.unshift(event);
    WANTED.find(([key]) => key === 'events')[2].id = event.id + 1;
  }
  model.events.length = Math.min(model.events.length, EVENTS_SHOWN);
}

// Which hosts are connected to each subsystem.
async function askHosts() {
  const subsystems = model.answers.subsystems;
  if (!Array.isArray(subsystems)) return;
  const names = subsystems.filter((one) => one.subtype !== 'Discovery').map((one) => one.nqn);
  if (names.length === 0) return;
  const answers = await call(names.map((nqn) => ['nvmf_subsystem_get_controllers', { nqn }]));
  model.hosts = {};
  names.forEach((nqn, index) => {
    if (Array.isArray(answers[index])) model.hosts[nqn] = answers[index];
  });
}

// One round. Throws when the engine does not answer.
async function ask() {
  if (!model.methods) {
    const [methods, version] = await call([['rpc_get_methods', {}], ['spdk_get_version', {}]]);
    if (methods instanceof Error) throw methods;
    model.methods = new Set(methods);
    model.version = version instanceof Error ? '' : version.version;
  }
  const wanted = WANTED.filter(([, method]) => model.methods.has(method));
  const results = await call(wanted.map(([, method, params]) => [method, params]));
  const answers = {};
  wanted.forEach(([key], index) => { answers[key] = results[index]; });
  model.answers = answers;
  compare(answers, Date.now());
  takeEvents(answers.events);
  await askHosts();
}

