// Stored responses: search for them, look at one, purge.
import { $, h, pill, say } from './dom.js'
import { call } from './api.js'
import * as format from './format.js'

const LIMIT = 15

export class Stored {
  // `failed` is told of errors; `explain` is asked to explain a URL.
  constructor ({ failed, explain }) {
    Object.assign(this, { failed, explain })
    this.form = $('search')
    this.form.addEventListener('submit', event => {
      event.preventDefault()
      this.find()
    })
    this.form.addEventListener('change', () => this.find())
    $('more').addEventListener('click', () => this.find(this.next))
    $('purge-found').addEventListener('click', () => this.purgeFound())
    for (const close of document.querySelectorAll('dialog .close')) {
      close.addEventListener('click', () => close.closest('dialog').close())
    }
    this.confirm = new Confirm(() => this.find())
  }

  routes (names) {
    const select = this.form.elements.route
    const before = select.value
    select.replaceChildren(h('option', { value: '' }, 'all'), ...names.map(name => h('option', { value: name }, name)))
    select.value = names.includes(before) ? before : ''
  }

  get wanted () {
    const { name, tag, route, sort } = this.form.elements
    return { name: name.value, tag: tag.value, route: route.value, sort: sort.value }
  }

  async find (cursor = null) {
    const { name, ...rest } = this.wanted
    // A word is looked for anywhere in names.
    const pattern = name && !name.includes('*') ? `*${name}*` : name
    const query = Object.entries({ name: pattern, ...rest, limit: LIMIT, cursor })
      .filter(([, value]) => value)
      .map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
    try {
      const page = await call('GET', `/stored?${query.join('&')}`)
      this.show(page, cursor !== null)
    } catch (error) {
      this.failed(error)
    }
  }

  show ({ responses, matched, invalidated, next }, isMore) {
    this.next = next
    const rows = responses.map(it => this.row(it))
    const body = $('stored-rows')
    if (isMore) body.append(...rows)
    else body.replaceChildren(...rows)
    if (body.children.length === 0) {
      const { name, tag, route } = this.wanted
      const why = name || tag || route
        ? 'Nothing in L1 is like that. L2 may hold more: a purge reaches it, too.'
        : 'Nothing is stored yet. Send a GET whose response has a lifetime, such as Cache-Control: max-age=60, or give its route a ttl.'
      body.append(h('tr', {}, h('td', { class: 'empty', colspan: 6 }, why)))
    }
    $('more').hidden = !next
    say($('stored-count'), `${format.count(matched)} found${invalidated ? `, and ${format.count(invalidated)} invalidated that still take room` : ''}`)
    $('purge-found').hidden = !this.purge(false) || matched === 0
  }

  row (it) {
    return h('tr', {},
      h('td', {}, h('button', { type: 'button', class: 'link name', onclick: () => this.open(it.id) }, it.name || '/')),
      h('td', {}, it.route ?? 'none now'),
      h('td', { class: 'number' }, it.status),
      h('td', {}, state(it)),
      h('td', { class: 'number' }, format.seconds(it.age_seconds)),
      h('td', { class: 'number' }, format.octets(it.octets)))
  }

  async open (id) {
    try {
      const it = await call('GET', `/stored/${id}`)
      say($('one-title'), it.name || '/')
      $('one-told').replaceChildren(...this.told(it))
      if (!$('one').open) $('one').showModal()
    } catch (error) {
      this.failed(error)
    }
  }

  told (it) {
    const left = it.ttl_seconds > 0 ? `${format.seconds(it.ttl_seconds)} left` : `over for ${format.seconds(-it.ttl_seconds)}`
    const facts = {
      Route: it.route ?? 'none that there is now',
      Status: String(it.status),
      State: state(it),
      Age: `${format.seconds(it.age_seconds)} of ${format.seconds(it.lifetime_seconds)}, ${left}`,
      Received: new Date(it.received).toLocaleString('en-GB'),
      Size: `${format.octets(it.content_octets)} of content, ${format.octets(it.octets)} in memory`,
      Tags: it.tags.join(', ') || 'none in its fields',
      'Log position': it.position,
      'When stale': stale(it)
    }
    const list = h('dl', { class: 'facts' }, Object.entries(facts).map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))
    const fields = h('pre', { tabindex: 0, 'aria-label': 'Fields' }, it.fields.map(([name, value]) => `${name}: ${value}`).join('\n'))
    const { beginning, whole, not_shown: why } = it.content
    const content = beginning === null
      ? h('p', { class: 'quiet' }, `Not shown: ${why}.`)
      : h('pre', { tabindex: 0, 'aria-label': 'Content' }, whole ? beginning || '(empty)' : `${beginning}…`)
    const variants = it.variants.length === 0 ? [] : [
      h('h3', {}, 'Variants'),
      h('ul', {}, it.variants.map(variant => h('li', {}, h('button', { type: 'button', onclick: () => this.open(variant.id) }, `${variant.status}, ${format.octets(variant.content_octets)}, ${format.seconds(variant.age_seconds)} old`))))
    ]
    const number = it.variants.length
    const label = number ? `“${it.name || '/'}” and its ${number === 1 ? 'variant' : `${number} variants`}` : `“${it.name || '/'}”`
    const actions = h('p', { class: 'actions' },
      h('button', { type: 'button', onclick: () => { $('one').close(); this.explain(it.name) } }, 'Explain…'),
      h('button', {
        type: 'button',
        class: 'danger',
        onclick: () => this.confirm.ask(`Purge ${label}?`, soft => call('DELETE', `/stored/${it.id}?soft=${soft}&wait=5s`), () => $('one').close())
      }, 'Purge…'))
    return [list, h('h3', {}, 'Fields'), fields, h('h3', {}, 'Content'), content, ...variants, actions]
  }

  // What of the search can be purged as a whole: by one condition alone.
  purge (soft) {
    const { name, tag, route } = this.wanted
    const given = [name, tag, route].filter(Boolean)
    if (given.length !== 1) return null
    if (tag) return { tags: [tag], soft }
    if (route) return { routes: [route], soft }
    return { patterns: [name.includes('*') ? name : `*${name}*`], soft }
  }

  purgeFound () {
    const [[what, [text]]] = Object.entries(this.purge(false))
    const label = { tags: `all that bears the tag “${text}”`, routes: `all of the route “${text}”`, patterns: `all whose names match “${text}”` }[what]
    this.confirm.ask(`Purge ${label}?`, soft => call('POST', '/purge?wait=5s', this.purge(soft)), () => {})
  }
}

// Asks before anything is purged, and says what has become of it.
class Confirm {
  constructor (done) {
    this.dialog = $('confirm')
    this.button = $('confirm-purge')
    this.done = done
    $('confirm-cancel').addEventListener('click', () => this.dialog.close())
    this.dialog.addEventListener('close', () => { if (this.isOver) this.after() })
    this.dialog.querySelector('form').addEventListener('submit', event => {
      event.preventDefault()
      this.purge()
    })
  }

  ask (title, work, after) {
    Object.assign(this, { work, after, isOver: false })
    say($('confirm-title'), title)
    say($('confirm-text'), 'This counts for every gateway that shares the cache, in memory and in L2.')
    say($('confirm-result'), '')
    this.dialog.querySelector('[name="soft"]').checked = true
    this.button.hidden = false
    this.button.disabled = false
    say($('confirm-cancel'), 'Cancel')
    this.dialog.showModal()
    // What does no harm is what Enter does.
    $('confirm-cancel').focus()
  }

  async purge () {
    const soft = this.dialog.querySelector('[name="soft"]:checked').value
    this.button.disabled = true
    say($('confirm-result'), 'Waiting for the gateways…')
    try {
      const { id, gateways, complete } = await this.work(soft)
      const applied = gateways.filter(gateway => gateway.applied).length
      const waits = gateways.filter(gateway => !gateway.applied).map(gateway => gateway.name)
      const of = `${applied} of ${gateways.length} ${gateways.length === 1 ? 'gateway' : 'gateways'}`
      say($('confirm-result'), complete ? `Done: applied by ${of}. Receipt ${id}.` : `Applied by ${of}, and not yet by ${waits.join(', ') || 'those that Redis does not tell of'}. Receipt ${id}.`)
      this.isOver = true
      this.button.hidden = true
      say($('confirm-cancel'), 'Close')
      $('confirm-cancel').focus()
      this.done()
    } catch (error) {
      say($('confirm-result'), `Not purged: ${error.message}`)
      this.button.disabled = false
    }
  }
}

function state (it) {
  const kind = it.state === 'fresh' ? 'good' : it.state === 'stale' ? 'warn' : ''
  return pill(it.invalidated_softly ? 'stale by a purge' : it.state, kind)
}

function stale (it) {
  if (it.must_revalidate) return 'it is validated before it is served'
  const parts = []
  if (it.stale_while_revalidate_seconds) parts.push(`served for ${format.seconds(it.stale_while_revalidate_seconds)} while it is validated`)
  if (it.stale_if_error_seconds) parts.push(`served for ${format.seconds(it.stale_if_error_seconds)} if the upstream fails`)
  return parts.join('; ') || 'it is validated'
}
