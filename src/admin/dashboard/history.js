// What was counted of late: the lists that `begin` has, and what came after.

const SECONDS = 600
const MINUTES = 1440
export const FIGURES = ['requests', 'l1_hits', 'l2_hits', 'collapsed', 'upstream_requests', 'upstream_failures', 'stored']

class Line {
  constructor (begun) {
    const lists = of => Object.fromEntries(FIGURES.map(name => [name, [...(begun?.[of]?.[name] ?? [])]]))
    this.seconds = lists('seconds')
    this.minutes = lists('minutes')
    this.minute = Object.fromEntries(FIGURES.map(name => [name, 0]))
  }

  second (counted, isMinute) {
    for (const name of FIGURES) {
      const value = counted?.[name] ?? 0
      push(this.seconds[name], value, SECONDS)
      this.minute[name] += value
      if (isMinute) {
        push(this.minutes[name], this.minute[name], MINUTES)
        this.minute[name] = 0
      }
    }
  }

  // What a figure came to in the last `span` seconds.
  sum (name, span = 60) {
    return this.seconds[name].slice(-span).reduce((sum, value) => sum + value, 0)
  }
}

function push (list, value, most) {
  list.push(value)
  if (list.length > most) list.shift()
}

const PERCENTILES = ['p50', 'p90', 'p99']

// How long responses took, in seconds; `null` where there were none.
class Latency {
  constructor (begun) {
    const lists = of => Object.fromEntries(PERCENTILES.map(name => [name, (begun?.[of]?.[name] ?? []).map(it => it === null ? null : it / 1e6)]))
    this.seconds = lists('seconds')
    this.minutes = lists('minutes')
  }

  second (counted, minute) {
    for (const name of PERCENTILES) {
      push(this.seconds[name], counted?.[`${name}_seconds`] ?? null, SECONDS)
      if (minute) push(this.minutes[name], minute[`${name}_seconds`], MINUTES)
    }
  }
}

export class History {
  constructor (begun = {}, latency = {}) {
    this.latency = new Latency(latency)
    this.all = new Line(begun)
    this.routes = new Map(Object.entries(begun.routes ?? {}).map(([name, route]) => [name, new Line(route)]))
    this.passed = 0
  }

  // A second is over; `minute` are the percentiles of the last minute.
  second (counted, minute) {
    this.passed += 1
    const isMinute = this.passed % 60 === 0
    this.latency.second(counted.latency, isMinute && minute)
    this.all.second(counted.all, isMinute)
    for (const name of Object.keys(counted.routes)) {
      if (!this.routes.has(name) && this.routes.size < 256) this.routes.set(name, new Line())
    }
    for (const [name, line] of this.routes) line.second(counted.routes[name], isMinute)
  }

  // How many seconds of the last `most` are known: a rate is of these.
  known (most = 60) {
    return Math.max(1, Math.min(most, this.all.seconds.requests.length))
  }
}
