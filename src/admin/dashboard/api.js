// Calls to the gateway's admin listener, and its feed. The token is kept by the tab and no longer.

const TOKEN = 'larder-token'

export class Refused extends Error {
  constructor (status, detail) {
    super(detail)
    this.status = status
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: value => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN)
}

async function ask (method, target, { body, signal } = {}) {
  const headers = {}
  if (token.get()) headers.authorization = `Bearer ${token.get()}`
  if (body) headers['content-type'] = 'application/json'
  const response = await fetch(target, {
    method,
    headers,
    signal,
    body: body && JSON.stringify(body),
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    referrerPolicy: 'no-referrer'
  })
  if (response.ok) return response
  const problem = await response.json().catch(() => ({}))
  const faults = problem.faults ? `: ${problem.faults.join('; ')}` : ''
  throw new Refused(response.status, (problem.detail ?? response.statusText) + faults)
}

// The JSON that a call answers with. An error that the gateway explains is a `Refused`.
export async function call (method, target, body) {
  return (await ask(method, target, { body })).json()
}

// The feed, until it ends or `signal` aborts it. A client of server-sent events of its own, as the
// browser's sends no fields, and so no token.
export async function follow (take, signal) {
  const response = await ask('GET', '/live', { signal })
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let gathered = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    gathered += value
    const events = gathered.split('\n\n')
    gathered = events.pop()
    for (const event of events) {
      const lines = event.split('\n')
      const of = name => lines.find(line => line.startsWith(`${name}: `))?.slice(name.length + 2)
      take(of('event'), JSON.parse(of('data')))
    }
  }
}
