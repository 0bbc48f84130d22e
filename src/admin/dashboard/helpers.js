// How everything is that the gateway works with: Redis, the invalidation log, MongoDB, upstreams, policies.
import { $, h, say, Rows } from './dom.js'
import * as format from './format.js'

const since = text => text ? `since ${new Date(text).toLocaleString('en-GB')}` : ''
const error = it => it ? `last error ${new Date(it.at).toLocaleTimeString('en-GB')}: ${it.text}` : ''
const joined = (...parts) => parts.filter(Boolean).join(' · ')

// How a server of L2 or of an upstream is, as a colour.
const KINDS = { up: 'good', trial: 'warn', 'half-open': 'warn', connecting: 'warn' }

export class Helpers {
  constructor () {
    this.rows = new Rows($('helper-rows'), stateRow, () => h('li', { class: 'empty' }, 'Nothing is configured besides L1.'))
    this.policies = new Rows($('policy-rows'), policyRow, () =>
      h('tr', {}, h('td', { class: 'empty', colspan: 5 }, 'No route has a policy. [policies.NAME] in gateway.toml adds one.')))
    this.calls = new Map()
  }

  show (second) {
    const all = states(second)
    this.rows.show(all.map(state => [state.name, state]))
    const open = all.filter(state => state.isBreaker && state.kind !== 'good').length
    say($('breakers'), open === 0 ? 'no breaker is open' : `${open} ${open === 1 ? 'breaker is' : 'breakers are'} open`)
    this.policies.show(second.counted.policies.map(policy => [policy.name, this.minute(policy)]))
  }

  // What a policy came to in the last minute.
  minute (policy) {
    const seconds = this.calls.get(policy.name) ?? []
    seconds.push(policy)
    if (seconds.length > 60) seconds.shift()
    this.calls.set(policy.name, seconds)
    const sum = name => seconds.reduce((sum, second) => sum + second[name], 0)
    return {
      span: seconds.length,
      calls: sum('calls'),
      remembered: sum('remembered'),
      failures: sum('failures'),
      spent: sum('spent_seconds'),
      total: policy.total
    }
  }
}

// One line for each thing that can fail.
export function states ({ health, store, upstreams, warming, changes }) {
  const all = []
  const add = (name, text, kind, more = '', isBreaker = false) => all.push({ name, text, kind, more, isBreaker })
  for (const server of health.l2 ? health.l2.servers ?? [health.l2] : []) {
    const kind = server.takes_writes === false ? 'warn' : KINDS[server.state] ?? 'bad'
    add(`L2 ${server.server}`, server.takes_writes === false ? 'refuses writes' : server.state, kind, joined(since(server.since), error(server.last_error)), true)
  }
  if (!health.l2) add('L2', 'not configured', '', 'L1 works alone: what is stored ends with the process')
  if (health.log) {
    const { in_contact: isWell, lag_seconds: lag, position, waiting, of_replica: isReplica } = health.log
    const more = joined(`position ${position}`, waiting ? `${waiting} wait to be appended` : '', isReplica ? 'of a replica' : '', health.log.error)
    add('Invalidation log', isWell ? `${format.seconds(lag)} behind` : 'out of reach', isWell && !waiting ? 'good' : 'bad', more)
  } else {
    add('Invalidation log', 'local', 'good', `position ${store.log_position} · ${format.count(store.log_marks)} marks, ${format.count(store.log_patterns)} patterns`)
  }
  for (const { name, servers, waiting, lookup_failures: failures } of health.upstreams) {
    for (const server of servers) {
      const more = joined(`${server.in_flight} in flight`, server.backup ? 'backup' : '', waiting ? `${waiting} wait` : '', server.last_failure ? `last failure ${new Date(server.last_failure.at).toLocaleTimeString('en-GB')}: ${server.last_failure.text}` : '')
      const address = server.address && !server.server.includes(server.address) ? ` (${server.address})` : ''
      add(`${name} ${server.server}${address}`, server.state, KINDS[server.state] ?? 'bad', more, server.state !== 'failing')
    }
    for (const failure of failures) add(`${name} ${failure.server}`, 'name not found', 'bad', joined(since(failure.since), failure.text), true)
    const { retries, retries_denied: denied, passed_over: passed } = upstreams[name] ?? {}
    if (retries || denied || passed) add(`${name} retries`, format.count(retries), denied ? 'warn' : '', joined(denied ? `${format.count(denied)} were over the budget` : '', passed ? `${format.count(passed)} connections refused` : ''))
  }
  for (const mongodb of health.mongodb) add(`MongoDB ${mongodb.name}`, mongodb.state, ['out-of-reach', 'login-refused'].includes(mongodb.state) ? 'bad' : 'good', joined(since(mongodb.since), error(mongodb.last_error)))
  for (const change of health.changes) {
    const applied = changes[change.name]
    add(`Changes of ${change.name}`, change.late ? 'late' : change.watching ? 'watched' : `by ${change.watched_by}`, change.late || change.error ? 'bad' : 'good', joined(applied ? `${format.count(applied.events)} applied` : '', change.error))
  }
  for (const { jwt, keys, failure } of health.token_keys) add(`Keys of ${jwt}`, failure ? 'cannot be fetched' : `${keys} keys`, failure ? 'bad' : 'good', failure ? joined(since(failure.since), failure.text) : '')
  if (health.reload_error) add('gateway.toml', 'not in service', 'bad', `${health.reload_error.text} · what was in service stays`)
  if (warming.running) add('Warming', 'under way', '', `${format.count(warming.stored)} stored, ${format.count(warming.hits)} were there`)
  return all
}

function stateRow (name) {
  const state = h('span', { class: 'pill' })
  const more = h('span', { class: 'more' })
  const element = h('li', {}, h('span', { class: 'name' }, name), state, more)
  const change = it => {
    state.className = `pill ${it.kind}`
    say(state, it.text)
    say(more, it.more)
  }
  return { element, change }
}

function policyRow (name) {
  const cells = [0, 1, 2, 3].map(() => h('td', { class: 'number' }))
  const element = h('tr', {}, h('th', { scope: 'row' }, h('span', { class: 'name' }, name)), cells)
  const change = ({ span, calls, remembered, failures, spent, total }) => {
    say(cells[0], `${format.rate(calls / span)} /s`)
    say(cells[1], format.percent(remembered, calls + remembered))
    say(cells[2], calls ? format.seconds(spent / calls) : total.calls ? format.seconds(total.spent_seconds / total.calls) : format.NOTHING)
    say(cells[3], failures ? `${format.count(failures)} (${format.count(total.failures)} in all)` : format.count(total.failures))
  }
  return { element, change }
}
