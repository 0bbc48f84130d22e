// Charts over time, drawn by hand as SVG: lines, or areas one on the other. The arrow keys move through
// the values as the pointer does.
import { h, s, say } from './dom.js'
import * as format from './format.js'

const HEIGHT = 136
const LEFT = 52
const BOTTOM = 18
const TOP = 8

// A number that the axis may well end with.
function ceiling (value) {
  if (!(value > 0)) return 1
  const size = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 2.5, 5, 10].map(step => step * size).find(step => step >= value)
}

export class Chart {
  // `series` are `{ name, colour }`; `show` makes a text of a value, `axis` one at the axis;
  // `most` is where that ends, if it is known.
  constructor ({ title, unit, series, stacked = false, show, axis = show, most }) {
    Object.assign(this, { title, series, stacked, show, axis, most })
    this.values = series.map(() => [])
    this.cursor = null
    this.svg = s('svg', { role: 'img', tabindex: 0, 'aria-label': title, preserveAspectRatio: 'none' })
    this.when = h('span', { class: 'quiet' }, unit)
    this.unit = unit
    this.numbers = series.map(() => h('b', {}, format.NOTHING))
    const keys = series.map(({ name, colour }, at) =>
      h('li', {}, h('span', { class: `key fill-${colour}`, 'aria-hidden': 'true' }), name, this.numbers[at]))
    this.element = h('figure', { class: 'chart' },
      h('figcaption', {}, h('span', {}, title), this.when), this.svg, h('ul', { class: 'legend' }, keys))
    this.shapes = series.map(({ colour }) => s('path', { class: stacked ? `area fill-${colour}` : `stroke stroke-${colour}` }))
    this.grid = s('g')
    this.mark = s('line', { class: 'cursor', y1: TOP, y2: HEIGHT - BOTTOM })
    this.svg.append(this.grid, ...this.shapes, this.mark)
    this.svg.addEventListener('pointermove', event => this.point(event))
    this.svg.addEventListener('pointerleave', () => this.move(null))
    this.svg.addEventListener('keydown', event => this.key(event))
    this.svg.addEventListener('blur', () => this.move(null))
    this.svg.addEventListener('focus', () => this.describe())
    new ResizeObserver(() => this.draw()).observe(this.svg)
  }

  // `values` has a list for each of the series, all as long; `null` is no value. The last is of `end`.
  set (values, { room, step, end }) {
    Object.assign(this, { values, room, step, end })
    this.draw()
  }

  draw () {
    const width = this.svg.clientWidth
    if (!width || !this.room) return
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`)
    const count = this.values[0].length
    const x = at => LEFT + (width - LEFT - 4) * (this.room - count + at) / Math.max(1, this.room - 1)
    const tops = this.stacked ? stack(this.values) : this.values
    const highest = Math.max(0, ...tops.map(list => list.reduce((most, value) => value > most ? value : most, 0)))
    const most = this.most ?? ceiling(highest)
    const y = value => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * Math.min(1, value / most)
    this.place = { x, count, width }
    this.axes(width, most, y)
    for (const [at, shape] of this.shapes.entries()) {
      const line = points(tops[at], x, y)
      if (!this.stacked) {
        shape.setAttribute('d', line)
      } else {
        const under = at === 0 ? tops[0].map(() => 0) : tops[at - 1]
        const back = under.map((value, place) => `L${x(place).toFixed(1)},${y(value).toFixed(1)}`).reverse().join('')
        shape.setAttribute('d', count ? `${line}${back}Z` : '')
      }
    }
    this.tell()
  }

  axes (width, most, y) {
    const lines = [0, most / 2, most].flatMap(value => [
      s('line', { class: 'grid', x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      s('text', { x: LEFT - 6, y: y(value) + 3.5, 'text-anchor': 'end' }, this.axis(value))
    ])
    const span = this.room * this.step
    const times = [0, 0.5, 1].map(part => s('text', {
      x: LEFT + (width - LEFT - 4) * part,
      y: HEIGHT - 4,
      'text-anchor': ['start', 'middle', 'end'][part * 2]
    }, part === 1 ? 'now' : `−${ago(span * (1 - part))}`))
    this.grid.replaceChildren(...lines, ...times)
  }

  point (event) {
    if (!this.place) return
    const { x, count } = this.place
    const at = event.clientX - this.svg.getBoundingClientRect().left
    const width = x(1) - x(0)
    this.move(Math.min(count - 1, Math.max(0, Math.round((at - x(0)) / width))))
  }

  key (event) {
    const last = (this.place?.count ?? 0) - 1
    const from = this.cursor ?? last
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, PageUp: from - 30, PageDown: from + 30 }[event.key]
    if (to === undefined) {
      if (event.key === 'Escape') this.move(null)
      return
    }
    event.preventDefault()
    this.move(Math.min(last, Math.max(0, to)))
    this.describe()
  }

  move (cursor) {
    this.cursor = cursor !== null && cursor >= 0 ? cursor : null
    this.tell()
  }

  // The values at the cursor, or the last ones.
  tell () {
    if (!this.place) return
    const { x, count } = this.place
    const at = Math.min(this.cursor ?? count - 1, count - 1)
    for (const [place, number] of this.numbers.entries()) {
      const value = this.values[place][at]
      say(number, value === null || value === undefined ? format.NOTHING : this.show(value))
    }
    this.mark.setAttribute('visibility', this.cursor === null ? 'hidden' : 'visible')
    if (this.cursor === null) {
      say(this.when, this.unit)
    } else {
      this.mark.setAttribute('x1', x(at))
      this.mark.setAttribute('x2', x(at))
      const time = this.end - (count - 1 - at) * this.step * 1000
      say(this.when, this.step >= 60 ? format.minute(time) : format.clock(time))
    }
  }

  // For those who hear it: when it is asked for, and not each second.
  describe () {
    const values = this.series.map(({ name }, at) => `${name} ${this.numbers[at].textContent}`)
    this.svg.setAttribute('aria-label', `${this.title}, ${this.when.textContent}: ${values.join(', ')}`)
  }
}

function ago (seconds) {
  if (seconds >= 3600) return `${seconds / 3600} h`
  return seconds >= 60 ? `${seconds / 60} min` : `${seconds} s`
}

function stack (lists) {
  const sums = lists[0].map(() => 0)
  return lists.map(list => list.map((value, at) => (sums[at] += value ?? 0)))
}

function points (list, x, y) {
  let path = ''
  let isDown = false
  for (const [at, value] of list.entries()) {
    if (value === null) {
      isDown = false
      continue
    }
    // One alone is a dot.
    path += `${isDown ? 'L' : 'M'}${x(at).toFixed(1)},${y(value).toFixed(1)}${isDown ? '' : 'h.01'}`
    isDown = true
  }
  return path
}

// A line in a table, of shares between 0 and 1.
export class Spark {
  constructor (label) {
    this.path = s('path')
    this.element = s('svg', { class: 'spark', viewBox: '0 0 120 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, this.path)
  }

  set (list) {
    const x = at => 120 * at / Math.max(1, list.length - 1)
    this.path.setAttribute('d', points(list, x, value => 19 - 18 * value))
  }
}
