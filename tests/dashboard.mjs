// Drives the dashboard in a real browser: Chromium, by the npm package `puppeteer-core`; `axe-core` judges
// how usable it is for those who do not see it, or see it otherwise.
//
//   node dashboard.mjs PACKAGES CLIENTS OPEN CLOSED TOKEN [FOLDER]
//
// CLIENTS is where a gateway answers clients and OPEN its admin listener; CLOSED is another one's, which
// wants TOKEN. With FOLDER it writes the screenshots of the docs there. It ends with 1, and says why, if
// anything is not as it should be. `tests/it/browser.rs` starts it.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'

const [packages, clients, open, closed, token, folder] = process.argv.slice(2)
const require = createRequire(path.join(packages, 'package.json'))
const puppeteer = require('puppeteer-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

const WAIT = { timeout: 20_000 }
const pause = millis => new Promise(resolve => setTimeout(resolve, millis))
const found = async query => (await (await fetch(`${open}/stored?${query}`)).json()).matched

// Requests as clients send them, until it is told to end.
let isBusy = true
async function traffic () {
  const ask = (target, method = 'GET') => fetch(clients + target, { method, headers: { connection: 'close' } }).then(response => response.arrayBuffer())
  for (let n = 0; isBusy; n++) {
    const some = Math.floor(40 * Math.random() ** 2)
    const burst = Array.from({ length: 1 + n % 4 }, (_, at) => ask(`/catalogue/${some}?utm_source=${at}`))
    burst.push(ask(`/users/${some % 20}`), n % 5 ? ask('/catalogue/0') : ask(`/cart/${some % 5}`))
    if (n % 97 === 50) burst.push(ask(`/catalogue/${some}`, 'PUT'))
    await Promise.all(burst)
    await pause(20 + 15 * Math.sin(n / 40))
  }
}

// What no page of ours may do: complain, break its own policy, or ask anybody but its gateway.
const complaints = []
async function newPage (browser, base) {
  const context = await browser.createBrowserContext()
  const page = await context.newPage()
  page.setDefaultTimeout(WAIT.timeout)
  await page.setViewport({ width: 1280, height: 860 })
  await page.evaluateOnNewDocument(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', event => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`))
    window.shifts = []
    new PerformanceObserver(list => window.shifts.push(...list.getEntries())).observe({ type: 'layout-shift' })
  })
  // A browser says by itself that a call was refused, which is how the page is told.
  const isOwn = message => /status of 401/.test(message.text())
  page.on('console', message => {
    if (['error', 'warn'].includes(message.type()) && !isOwn(message)) complaints.push(`console: ${message.text()}`)
  })
  page.on('pageerror', error => complaints.push(`error: ${error.message}`))
  page.on('request', request => {
    if (new URL(request.url()).origin !== base) complaints.push(`asked for ${request.url()}`)
  })
  page.on('dialog', dialog => {
    complaints.push(`a dialog of the browser: ${dialog.message()}`)
    dialog.dismiss()
  })
  return page
}

const text = (page, selector) => page.$eval(selector, element => element.textContent)
async function becomes (page, selector, pattern) {
  const is = (selector, pattern) => new RegExp(pattern).test(document.querySelector(selector)?.textContent ?? '')
  const late = await page.waitForFunction(is, WAIT, selector, pattern).then(() => null, error => error)
  if (late) assert.fail(`${selector} does not become ${pattern}, but ${await text(page, selector).catch(() => late)}`)
}
const isOpen = (page, id) => page.$eval(`#${id}`, dialog => dialog.open)
const focused = page => page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.textContent)

// Presses Tab until this has the focus.
async function tabTo (page, what) {
  for (let presses = 0; presses < 80; presses++) {
    if (await page.evaluate(what => document.activeElement.matches(what), what)) return
    await page.keyboard.press('Tab')
  }
  assert.fail(`Tab does not lead to ${what}`)
}

async function isUsable (page, what) {
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }))
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html.slice(0, 120)} (${node.failureSummary.slice(0, 200)})`).join('; ')}`)
  assert.deepEqual(told, [], `${what} is usable for everybody`)
}

async function figuresMove (page) {
  await page.goto(open)
  await becomes(page, '#connection', '^live$')
  const requests = '#tiles .value span'
  const seen = new Set()
  const end = Date.now() + WAIT.timeout
  while (seen.size < 3 && Date.now() < end) {
    seen.add(await text(page, requests))
    await pause(300)
  }
  assert.ok(seen.size >= 3, `the figures move: ${[...seen]}`)
  await page.waitForFunction(() => document.querySelectorAll('#charts svg path[d^="M"]').length >= 9, WAIT)
  await becomes(page, '#route-rows', 'catalogue')
  await becomes(page, '#policy-rows', 'no-tracking')
  await becomes(page, '#helper-rows', 'redis.sock *up')
  await becomes(page, '#busiest', 'catalogue/0')
  await becomes(page, '#invalidation-rows', '/catalogue/')
}

async function nothingJumps (page) {
  await page.evaluate(() => { window.shifts.length = 0 })
  await pause(2500)
  const moved = await page.evaluate(() => window.shifts.reduce((sum, shift) => sum + shift.value, 0))
  // A row that comes moves those below it; everything else keeps its place.
  assert.ok(moved < 0.1, `the page jumps: ${moved}`)
}

// What was wrong once is not wrong for ever; what is wrong now is nowhere green.
async function tellsTroubleFromThePast (page) {
  const told = await page.evaluate(async () => {
    const { states } = await import('/dashboard/helpers.js')
    const since = new Date().toISOString()
    const error = { at: since, text: 'refused' }
    const mongodb = [{ name: 'now', state: 'reached', since, last_error: error }, { name: 'out', state: 'out-of-reach', since, last_error: error }]
    const keys = [{ jwt: 'there', keys: 2, failure: null }, { jwt: 'lost', keys: 2, failure: { since, text: '404' } }]
    // One that is asked all the same is no breaker that is open.
    const servers = [{ server: 'one', state: 'failing', in_flight: 0 }, { server: 'other', state: 'ejected', in_flight: 0 }]
    const health = { l2: null, log: null, upstreams: [{ name: 'shop', servers, lookup_failures: [] }], changes: [], mongodb, token_keys: keys }
    const store = { log_position: '0-0', log_marks: 0, log_patterns: 0 }
    return states({ health, store, upstreams: {}, warming: {}, changes: {} }).map(({ name, kind, isBreaker }) => `${name}: ${kind}${isBreaker ? ', a breaker' : ''}`)
  })
  assert.deepEqual(told.slice(2), ['shop one: bad', 'shop other: bad, a breaker', 'MongoDB now: good', 'MongoDB out: bad', 'Keys of there: good', 'Keys of lost: bad'])
}

async function purgesAfterAsking (page) {
  await page.type('#search [name=name]', 'users/3')
  await page.click('#search [type=submit]')
  await page.waitForFunction(() => document.querySelectorAll('#stored-rows button').length === 1, WAIT)
  // Rows may be made anew by what was asked before.
  await page.locator('#stored-rows button').click()
  await becomes(page, '#one-told', 'content-type: text/html')
  // What an upstream sent is text, and nothing else.
  await becomes(page, '#one-told', '<script>alert\\(1\\)</script>.*')
  assert.equal(await page.$('#one-told script, #one-told b, #one-told img'), null)
  await page.click('#one-told .danger')
  assert.ok(await isOpen(page, 'confirm'))
  assert.equal(await focused(page), 'confirm-cancel', 'what does no harm has the focus')
  await page.keyboard.press('Enter')
  assert.ok(!await isOpen(page, 'confirm'))
  assert.equal(await found('name=users/3'), 1, 'nothing is purged before it was asked for')
  isBusy = false
  await busy
  await page.click('#one-told .danger')
  await page.click('#confirm-purge')
  await becomes(page, '#confirm-result', 'Done: applied by 1 of 1 gateway')
  assert.equal(await found('name=users/3'), 0)
  await page.click('#confirm-cancel')
  // What is gone is shown no more.
  await page.waitForSelector('#one:not([open])')
  await becomes(page, '#stored-rows', 'Nothing in L1 is like that')
  await becomes(page, '#invalidation-rows', 'users/3.*purge.*applied by 1 of 1')
}

async function worksByKeyboard (page) {
  await page.goto(open)
  await becomes(page, '#connection', '^live$')
  await page.keyboard.press('Tab')
  assert.equal(await focused(page), 'Skip to the figures')
  await page.keyboard.press('Enter')
  await tabTo(page, '#charts svg')
  await page.keyboard.press('ArrowLeft')
  assert.match(await text(page, '#charts figcaption .quiet'), /^\d\d:\d\d:\d\d$/)
  assert.match(await page.$eval('#charts svg', svg => svg.getAttribute('aria-label')), /\d\d:\d\d:\d\d: L1 \d/)
  await page.keyboard.press('Escape')
  await tabTo(page, '#search [name=tag]')
  await page.keyboard.type('catalogue')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.querySelector('#stored-rows').textContent.includes('catalogue') && !document.querySelector('#stored-rows').textContent.includes('users'), WAIT)
  await tabTo(page, '#purge-found')
  await page.keyboard.press('Enter')
  await becomes(page, '#confirm-title', 'all that bears the tag “catalogue”')
  await page.keyboard.press('Escape')
  assert.ok(!await isOpen(page, 'confirm'))
  await page.waitForFunction(() => document.activeElement.id === 'purge-found')
  await tabTo(page, '#stored-rows button')
  await page.keyboard.press('Enter')
  await page.waitForSelector('#one[open]')
  await page.keyboard.press('Escape')
  await page.waitForSelector('#one:not([open])')
  // Back where it was.
  await page.waitForFunction(() => document.activeElement.matches('#stored-rows button'))
  assert.ok(await found('tag=catalogue') > 0)
}

async function wantsTheToken (page) {
  await page.goto(closed)
  await page.waitForSelector('#login[open]')
  assert.equal(await text(page, '#login-error'), '')
  for (const wrong of ['wrong', `${token}x`, `${token}\u20ac`]) {
    await page.type('#token', wrong)
    await page.keyboard.press('Enter')
    await becomes(page, '#login-error', 'That is not the token')
    await page.waitForFunction(() => document.activeElement.id === 'token' && document.activeElement.value === '')
  }
  await page.keyboard.press('Escape')
  assert.ok(await isOpen(page, 'login'), 'there is nothing to see without it')
  await page.type('#token', token)
  await page.keyboard.press('Enter')
  await becomes(page, '#connection', '^live$')
  assert.ok(!await isOpen(page, 'login'))
  await page.reload()
  await becomes(page, '#connection', '^live$')
  const kept = await page.evaluate(() => JSON.stringify([localStorage, document.cookie]))
  assert.ok(!kept.includes(token), 'no longer than the tab is there')
  await page.click('#leave')
  await page.waitForSelector('#login[open]')
}

// Light and dark, and as narrow as a phone.
async function looks (page) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
    await page.waitForFunction(scheme => document.documentElement.dataset.theme === scheme, WAIT, scheme)
    await isUsable(page, scheme)
  }
  await page.select('#theme', 'light')
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light')
  await page.select('#theme', '')
  await page.setViewport({ width: 360, height: 740 })
  await page.waitForFunction(() => document.scrollingElement.scrollWidth <= 360, WAIT)
  await page.setViewport({ width: 1280, height: 860 })
}

async function explains (page) {
  await page.type('#ask [name=url]', `${clients}/catalogue/1`)
  await page.click('#ask [type=submit]')
  await becomes(page, '#explanation', 'catalogue/1.*no-tracking')
  await isUsable(page, 'an explanation')
  // Where content decides, there is room for it.
  const hasRoom = () => page.$eval('#ask textarea', input => input.checkVisibility())
  assert.ok(!await hasRoom())
  await page.select('#ask [name=method]', 'QUERY')
  assert.ok(await hasRoom())
  await page.click('#ask [type=submit]')
  await becomes(page, '#explanation', 'unknown')
  await page.type('#ask textarea', 'colour = "red"')
  await page.click('#ask [type=submit]')
  await becomes(page, '#explanation', 'nothing that may answer.*content octets14')
  await isUsable(page, 'an explanation with content')
  await page.select('#ask [name=method]', 'GET')
  assert.ok(!await hasRoom())
  // Asked for from what is stored, it is about that.
  await page.click('#stored-rows button')
  await page.waitForSelector('#one[open]')
  await page.click('#one .actions button')
  await page.waitForSelector('#one:not([open])')
  assert.match(await page.$eval('#ask [name=url]', input => input.value), /^http:\/\/127\.0\.0\.1\/catalogue\//)
}

async function screenshots (page) {
  await page.setViewport({ width: 1280, height: 1000 })
  await pause(62_000)
  await page.goto(open)
  await becomes(page, '#connection', '^live$')
  await pause(12_000)
  for (const scheme of ['light', 'dark']) {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
    await pause(1000)
    await page.screenshot({ path: path.join(folder, `dashboard-${scheme}.png`) })
  }
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }])
  await page.setViewport({ width: 390, height: 844 })
  await pause(1000)
  await page.screenshot({ path: path.join(folder, 'dashboard-narrow.png') })
  await page.setViewport({ width: 1280, height: 860 })
}

const profile = mkdtempSync(path.join(tmpdir(), 'larder-browser-'))
const isRoot = process.getuid?.() === 0
const browser = await puppeteer.launch({
  executablePath: process.env.PATH.split(':').map(folder => path.join(folder, 'chromium')).find(existsSync),
  userDataDir: profile,
  args: [...(isRoot ? ['--no-sandbox'] : []), '--disable-dev-shm-usage', '--disable-gpu']
})
// A browser that hangs would keep it for ever.
setTimeout(() => {
  console.error('the browser took too long')
  process.exit(1)
}, folder ? 300_000 : 120_000).unref()
let failure = null
const busy = traffic()
try {
  const page = await newPage(browser, open)
  if (folder) await screenshots(page)
  await figuresMove(page)
  await nothingJumps(page)
  await looks(page)
  await tellsTroubleFromThePast(page)
  await purgesAfterAsking(page)
  await worksByKeyboard(page)
  await explains(page)
  const locked = await newPage(browser, closed)
  await wantsTheToken(locked)
  await isUsable(locked, 'the login')
  for (const one of [page, locked]) complaints.push(...await one.evaluate(() => window.violations))
  assert.deepEqual(complaints, [])
} catch (error) {
  failure = error
} finally {
  isBusy = false
  await browser.close()
  rmSync(profile, { recursive: true, force: true })
}
if (failure) {
  console.error(failure.stack)
  if (complaints.length) console.error(complaints.join('\n'))
  process.exit(1)
}
process.exit(0)
