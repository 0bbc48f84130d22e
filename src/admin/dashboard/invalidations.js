// Invalidations as they are applied, and which gateways have applied those that operators asked for.
import { $, h, pill, say } from './dom.js'
import * as format from './format.js'

const MOST = 100

export class Invalidations {
  constructor () {
    this.list = $('invalidation-rows')
    this.receipts = new Map()
    this.begin([], [])
  }

  begin (invalidations, receipts) {
    this.last = null
    this.list.replaceChildren(h('li', { class: 'empty' }, 'None so far. A write, a change of a document, or a purge is here as soon as it is applied.'))
    this.applied(receipts)
    this.add(invalidations)
  }

  add (invalidations) {
    for (const it of invalidations) {
      if (!this.last) this.list.replaceChildren()
      // One write covers a path, its query and more by the same text.
      if (this.last && this.last.covers === it.covers && this.last.soft === it.soft && it.at - this.last.at < 1000) {
        this.last.count += 1
        this.last.positions.push(it.position)
        this.tell(this.last)
        continue
      }
      this.last = { ...it, count: 1, positions: [it.position], ...row(it) }
      this.last.element.made = this.last
      this.list.prepend(this.last.element)
      this.tell(this.last)
      while (this.list.children.length > MOST) this.list.lastChild.remove()
    }
  }

  applied (receipts) {
    for (const receipt of receipts) this.receipts.set(receipt.id, receipt)
    while (this.receipts.size > MOST) this.receipts.delete(this.receipts.keys().next().value)
    for (const { made } of this.list.children) if (made) this.tell(made)
  }

  tell (made) {
    say(made.times, made.count > 1 ? `× ${made.count}` : '')
    const id = made.positions.find(position => this.receipts.has(position))
    if (!id) return
    const { gateways, complete } = this.receipts.get(id)
    const done = gateways.filter(gateway => gateway.applied).length
    const waits = gateways.filter(gateway => !gateway.applied).map(gateway => gateway.name)
    made.receipt.className = `pill ${complete ? 'good' : 'warn'}`
    made.receipt.title = waits.length ? `not yet: ${waits.join(', ')}` : gateways.map(gateway => gateway.name).join(', ')
    say(made.receipt, `applied by ${done} of ${gateways.length}`)
  }
}

const CAUSES = { write: 'write', change: 'document', purge: 'purge', trouble: 'trouble' }

function row ({ at, kind, covers, soft, position, cause, by }) {
  const name = { all: 'everything', pattern: covers }[kind] ?? (covers || 'the root')
  const times = h('span', { class: 'place' })
  const receipt = h('span', { class: 'pill' })
  const element = h('li', {},
    h('time', { datetime: new Date(at).toISOString() }, format.clock(at)),
    h('span', { class: 'name' }, name),
    times,
    kind === 'pattern' ? pill('pattern') : kind === 'all' ? pill('all', 'warn') : null,
    soft ? pill('stale') : null,
    cause ? h('span', { class: 'place', title: by && `by ${by}` }, CAUSES[cause] ?? cause) : null,
    receipt,
    h('span', { class: 'place' }, position))
  return { element, times, receipt }
}
