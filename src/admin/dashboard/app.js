// The page: follows the feed, and shows what comes.
import { $, h, pill, say } from './dom.js'
import { call, follow, token } from './api.js'
import { Helpers } from './helpers.js'
import { History } from './history.js'
import { Invalidations } from './invalidations.js'
import { Overview } from './overview.js'
import { Stored } from './stored.js'
import { tree } from './tree.js'
import * as format from './format.js'

const THEME = 'larder-theme'
const STATUS = { pass: ['all is well', 'good'], warn: ['look below', 'warn'], fail: ['takes no requests', 'bad'] }

const overview = new Overview()
const helpers = new Helpers()
const invalidations = new Invalidations()
const stored = new Stored({ failed, explain: prefill })

let history = new History()
let second = null
let routes = []
let step = 1
let following = null

// What the feed tells.
const take = {
  begin (told) {
    history = new History(told.history, told.latency)
    routes = told.routes
    say($('gateway'), `${told.gateway} · ${told.version}`)
    document.title = `Larder · ${told.gateway}`
    stored.routes(routes)
    invalidations.begin(told.invalidations, told.receipts)
    take.busiest(told.busiest)
    show(told.second)
    connected()
    stored.find()
  },
  second (told) {
    // The one that `begin` had.
    if (second && told.number <= second.number) return
    history.second(told.counted, told.latency)
    show(told)
  },
  invalidations: told => invalidations.add(told.invalidations),
  receipts: told => invalidations.applied(told.receipts),
  busiest (told) {
    const urls = told?.urls ?? []
    const most = urls[0]?.hits ?? 1
    $('busiest').replaceChildren(...urls.slice(0, 12).map(({ url, hits }) => {
      const name = url.replace(/^http:\/\//, '')
      return h('li', {}, h('span', { class: 'name', title: url }, name), h('span', {}, format.count(hits)), h('progress', { value: hits, max: most, 'aria-hidden': 'true' }))
    }))
    const why = urls.length > 0 ? '' : told?.why_not ?? 'No URL has been hit yet.'
    say($('busiest-why'), why && why[0].toUpperCase() + why.slice(1).replaceAll('`', ''))
    $('busiest-why').hidden = !why
  }
}

function show (told) {
  second = { ...told, routes }
  overview.show(history, second, step)
  helpers.show(second)
  const [text, kind] = told.health.draining ? ['is draining', 'bad'] : STATUS[told.health.status]
  say($('status'), text)
  $('status').className = `pill ${kind}`
}

function connected () {
  say($('connection'), 'live')
  $('connection').className = 'pill good'
  $('alert').hidden = true
  $('leave').hidden = !token.get()
}

// Follows the feed for as long as the page is there.
async function run () {
  let pause = 500
  for (;;) {
    following = new AbortController()
    try {
      await follow((name, told) => {
        pause = 500
        take[name]?.(told)
      }, following.signal)
    } catch (error) {
      if (error.status === 401) await login(token.get() ? 'That is not the token.' : '')
      else if (error.status) failed(error)
    }
    second = null
    say($('connection'), 'reconnecting')
    $('connection').className = 'pill warn'
    await new Promise(resolve => setTimeout(resolve, pause))
    pause = Math.min(2 * pause, 8000)
  }
}

// Asks for the token, until there is one to try.
function login (wrong) {
  token.forget()
  $('leave').hidden = true
  say($('login-error'), wrong)
  const dialog = $('login')
  if (!dialog.open) dialog.showModal()
  $('token').value = ''
  $('token').focus()
  return new Promise(resolve => {
    dialog.querySelector('form').addEventListener('submit', event => {
      event.preventDefault()
      const { value } = $('token')
      // No token has other characters, and a browser sends no field that has.
      if (!/^[\x20-\x7e]+$/.test(value)) return login('That is not the token.').then(resolve)
      token.set(value)
      tried(resolve)
    }, { once: true })
  })
}

// There is nothing to see without one.
$('login').addEventListener('cancel', event => event.preventDefault())

// Whether the token is the right one is known before the dialog goes.
async function tried (resolve) {
  try {
    await call('GET', '/stats')
    $('login').close()
    resolve()
  } catch (error) {
    if (error.status === 401) return login('That is not the token.').then(resolve)
    $('login').close()
    resolve()
  }
}

function failed (error) {
  say($('alert'), error.message)
  $('alert').hidden = false
}

function prefill (name) {
  const { url } = $('ask').elements
  url.value = `http://${location.hostname}/${name}`
  url.focus()
  url.setSelectionRange(7, 7 + location.hostname.length)
}

// Of these methods content may decide.
const asksByContent = method => ['QUERY', 'POST'].includes(method.value)

function makeRoom () {
  const { method, content, type } = $('ask').elements
  for (const input of [content, type]) input.parentElement.hidden = !asksByContent(method)
}
$('ask').addEventListener('change', makeRoom)
// A browser may remember a method.
makeRoom()

$('ask').addEventListener('submit', async event => {
  event.preventDefault()
  const { method, url, content, type } = event.target.elements
  const asked = { method: method.value, url: url.value }
  if (asksByContent(method)) {
    if (type.value) asked.fields = [`Content-Type: ${type.value}`]
    if (content.value) asked.content = content.value
  }
  try {
    const told = await call('POST', '/explain', asked)
    $('explanation').replaceChildren(...explained(told))
  } catch (error) {
    const text = error.status === 404 ? 'This gateway cannot explain requests.' : error.message
    $('explanation').replaceChildren(h('p', { class: 'notice' }, text))
  }
})

// In short, and then all of it.
function explained (told) {
  const { outcome } = told
  const short = outcome && h('p', {}, pill(outcome.does ?? 'unknown', outcome.does === 'hit' ? 'good' : ''), ' ', outcome.why ?? '', ' ', outcome.cache_status && h('code', {}, outcome.cache_status))
  return [short, tree(told)].filter(Boolean)
}

$('window').addEventListener('change', event => {
  step = event.target.value === 'seconds' ? 1 : 60
  if (second) overview.show(history, second, step)
})

const dark = matchMedia('(prefers-color-scheme: dark)')
function paint () {
  const chosen = localStorage.getItem(THEME) ?? ''
  document.documentElement.dataset.theme = chosen || (dark.matches ? 'dark' : 'light')
  $('theme').value = chosen
}
dark.addEventListener('change', paint)
$('theme').addEventListener('change', event => {
  if (event.target.value) localStorage.setItem(THEME, event.target.value)
  else localStorage.removeItem(THEME)
  paint()
})
paint()

$('leave').addEventListener('click', () => {
  token.forget()
  // What it has shown goes with the page.
  location.reload()
})

run()
