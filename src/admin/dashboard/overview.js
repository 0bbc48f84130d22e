// The tiles, the charts, and the table of routes.
import { $, h, say, Rows } from './dom.js'
import { Chart, Spark } from './chart.js'
import * as format from './format.js'

const SPAN = 60

class Tile {
  constructor (title) {
    this.value = h('span', {}, format.NOTHING)
    this.unit = h('small')
    this.more = h('div', { class: 'more' }, '\u00a0')
    this.element = h('div', { class: 'tile' },
      h('dt', {}, title), h('dd', {}, h('div', { class: 'value' }, this.value, this.unit), this.more))
  }

  set (value, unit, more) {
    say(this.value, value)
    say(this.unit, unit)
    say(this.more, more || '\u00a0')
    this.more.title = more
  }
}

const tiles = {
  requests: new Tile('Requests'),
  hits: new Tile('Hit rate, last minute'),
  saved: new Tile('Load saved, last minute'),
  latency: new Tile('Latency, last minute'),
  failures: new Tile('Failures, last minute'),
  l1: new Tile('Stored in L1')
}
const room = h('meter', { min: 0, max: 1, 'aria-label': 'Part of the capacity of L1 in use' })

const share = value => format.percent(value, 100)

const charts = {
  answers: new Chart({
    title: 'Requests by what answered them',
    unit: 'a second',
    stacked: true,
    show: format.rate,
    series: [
      { name: 'L1', colour: 'l1' },
      { name: 'L2', colour: 'l2' },
      { name: 'Collapsed', colour: 'collapsed' },
      { name: 'Others', colour: 'upstream' }
    ]
  }),
  hits: new Chart({
    title: 'Hit rate',
    unit: 'of requests',
    most: 100,
    show: share,
    axis: value => `${value} %`,
    series: [
      { name: 'Both tiers', colour: 'whole' },
      { name: 'L1', colour: 'l1' },
      { name: 'L2', colour: 'l2' }
    ]
  }),
  latency: new Chart({
    title: 'Latency',
    unit: 'until the head of a response',
    show: value => value === null ? format.NOTHING : format.seconds(value),
    axis: value => format.seconds(value).replace(/\.0+ /, ' '),
    series: [
      { name: 'Half', colour: 'p50' },
      { name: '90 %', colour: 'p90' },
      { name: '99 %', colour: 'p99' }
    ]
  }),
  upstream: new Chart({
    title: 'Load of upstreams',
    unit: 'a second',
    show: format.rate,
    series: [
      { name: 'Requests', colour: 'whole' },
      { name: 'Sent upstream', colour: 'upstream' }
    ]
  })
}

export class Overview {
  constructor () {
    $('tiles').append(...Object.values(tiles).map(tile => tile.element))
    tiles.l1.element.lastChild.append(room)
    $('charts').append(...Object.values(charts).map(chart => chart.element))
    this.rows = new Rows($('route-rows'), routeRow, () =>
      h('tr', {}, h('td', { class: 'empty', colspan: 9 }, 'No route has been asked for anything yet. Send a request to the gateway, and it is here.')))
  }

  show (history, second, step) {
    this.tell(history, second)
    this.draw(history, second, step)
    const names = [...new Set([...second.routes, ...history.routes.keys()])]
    const rows = names.map(name => [name, { line: history.routes.get(name), known: history.known() }])
    this.rows.show(rows)
  }

  tell (history, { total, latency, store, l1_capacity: capacity, unrouted_requests: unrouted }) {
    const { all } = history
    const known = history.known(SPAN)
    const requests = all.sum('requests', SPAN)
    const hits = all.sum('l1_hits', SPAN) + all.sum('l2_hits', SPAN)
    const upstream = all.sum('upstream_requests', SPAN)
    tiles.requests.set(format.rate(requests / known), 'a second', `${format.count(total.total_requests)} since the start${unrouted ? `, ${format.count(unrouted)} for no route` : ''}`)
    const ever = total.total_requests ? `${total.hit_rate.toFixed(1)} % since the start` : 'nobody has asked yet'
    tiles.hits.set(format.percent(hits, requests), '', ever)
    tiles.saved.set(format.percent(Math.max(0, requests - upstream), requests), '', `${format.rate(upstream / known)} /s go upstream`)
    const { p50_seconds: half, p99_seconds: most } = latency
    const within = value => value === null ? format.NOTHING : format.seconds(value)
    tiles.latency.set(within(half), half === null ? '' : 'half', most === null ? 'until the head of a response' : `99 % within ${within(most)}`)
    const failed = all.sum('upstream_failures', SPAN)
    tiles.failures.set(format.count(failed), 'by upstreams', `${format.count(total.upstream_failures)} since the start`)
    tiles.l1.set(format.count(store.l1_entries), store.l1_entries === 1 ? 'entry' : 'entries', capacity ? `${format.octets(store.l1_octets)} of ${format.octets(capacity)}` : 'L1 is off')
    room.value = capacity ? store.l1_octets / capacity : 0
    room.hidden = !capacity
  }

  draw (history, { at }, step) {
    const lists = history.all[step === 1 ? 'seconds' : 'minutes']
    const of = name => lists[name].map(value => value / step)
    const requests = of('requests')
    const parts = [of('l1_hits'), of('l2_hits'), of('collapsed')]
    const others = requests.map((value, place) => Math.max(0, value - parts.reduce((sum, part) => sum + part[place], 0)))
    const known = requests.length
    // A gateway that has just begun has little to show, and shows it large.
    const room = (step === 1 ? [60, 120, 300, 600] : [60, 180, 720, 1440]).find(room => room >= known)
    const scale = { room, step, end: at }
    charts.answers.set([...parts, others], scale)
    // Single seconds of few requests jump between nothing and all.
    const width = step === 1 ? 10 : 1
    const sums = name => smooth(lists[name], width)
    const whole = sums('requests')
    const [l1, l2] = [sums('l1_hits'), sums('l2_hits')]
    const shares = list => list.map((value, place) => whole[place] ? 100 * value / whole[place] : null)
    charts.hits.set([shares(l1.map((value, place) => value + l2[place])), shares(l1), shares(l2)], scale)
    const { p50, p90, p99 } = history.latency[step === 1 ? 'seconds' : 'minutes']
    // It may be a second ahead of what was counted, or behind.
    charts.latency.set([p50, p90, p99].map(list => list.slice(-known)), scale)
    charts.upstream.set([requests, of('upstream_requests')], scale)
  }
}

// Each value is the sum of it and those before it.
function smooth (list, width) {
  let sum = 0
  return list.map((value, at) => {
    sum += value - (at >= width ? list[at - width] : 0)
    return sum
  })
}

function routeRow (name) {
  const spark = new Spark(`Hit rate of ${name} over ten minutes`)
  const cells = Object.fromEntries(['requests', 'rate', 'l1', 'l2', 'collapsed', 'upstream', 'failed'].map(key => [key, h('td', { class: 'number' })]))
  const element = h('tr', {}, h('th', { scope: 'row' }, h('span', { class: 'name' }, name)),
    cells.requests, cells.rate, h('td', { class: 'wide' }, spark.element), cells.l1, cells.l2, cells.collapsed, cells.upstream, cells.failed)
  const change = ({ line, known }) => {
    const sum = figure => line ? line.sum(figure, SPAN) : 0
    const a = figure => `${format.rate(sum(figure) / known)} /s`
    say(cells.requests, a('requests'))
    say(cells.rate, format.percent(sum('l1_hits') + sum('l2_hits'), sum('requests')))
    say(cells.l1, a('l1_hits'))
    say(cells.l2, a('l2_hits'))
    say(cells.collapsed, a('collapsed'))
    say(cells.upstream, a('upstream_requests'))
    say(cells.failed, format.count(sum('upstream_failures')))
    if (!line) return
    const requests = smooth(line.seconds.requests, 20)
    const hits = smooth(line.seconds.l1_hits.map((value, at) => value + line.seconds.l2_hits[at]), 20)
    // Six hundred seconds are five to a point.
    const shares = requests.map((value, at) => value ? hits[at] / value : null)
    spark.set(shares.filter((_, at) => (shares.length - 1 - at) % 5 === 0))
  }
  return { element, change }
}
