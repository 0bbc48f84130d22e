// Runs the tests of the npm package `http-cache-tests`, the suite behind https://cache-tests.fyi.
//
//   node conformance.mjs PACKAGE serve            its origin, on a free port of loopback, which it prints
//   node conformance.mjs PACKAGE run BASE [ID …]  its client, before the cache at BASE: all tests, or these
//
// The package's own programs listen on all interfaces and run one test or all. Here are its handlers,
// its tests and its runner, and nothing that decides. `tests/it/conformance.rs` judges the results.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

// While anything else is written, the response to a POST is not stored for the GETs to come
// (`src/gateway/post.rs`), and the suite writes before each test.
const ALONE = ['method-POST']

const [folder, what, base, ...chosen] = process.argv.slice(2)
const part = name => import(new URL(name, pathToFileURL(folder + '/')))

async function serve () {
  const handlers = {
    config: (await part('server/handle-config.mjs')).default,
    state: (await part('server/handle-state.mjs')).default,
    test: (await part('server/handle-test.mjs')).default
  }
  // The handlers would log beside the port.
  const print = console.log
  console.log = () => {}
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    const [first, ...rest] = pathname.split('/').slice(1)
    const handle = handlers[first]
    if (handle) {
      handle(rest, request, response)
    } else {
      response.writeHead(404).end()
    }
  })
  server.listen(0, '127.0.0.1', () => print(server.address().port))
  // It ends with whoever started it.
  process.stdin.on('end', () => process.exit()).resume()
}

async function run () {
  // Each has a list of its own of what to run, and both the results.
  const [runner, another] = [await part('client/runner.mjs'), await part('client/runner.mjs?alone')]
  const suites = [
    ...(await part('tests/index.mjs')).default,
    (await part('tests/surrogate-control.mjs')).default
  ]
  const fetch = createRequire(path.join(folder, 'package.json'))('node-fetch')
  // A response that never comes would keep it for ever.
  setTimeout(() => process.exit(1), 180_000).unref()
  const isChosen = ({ id }) => chosen.length === 0 || chosen.includes(id)
  const tests = suites.flatMap(suite => suite.tests).filter(isChosen)
  const isAlone = ({ id }) => ALONE.includes(id)
  await runner.runTests([{ tests: tests.filter(test => !isAlone(test)) }], fetch, false, base)
  await another.runTests([{ tests: tests.filter(isAlone) }], fetch, false, base)
  const results = runner.getResults()
  const rows = tests.filter(({ id }) => id in results)
  console.log(JSON.stringify(rows.map(({ id, kind }) => ({
    id,
    kind: kind ?? 'required',
    fault: results[id] === true ? null : results[id].join(': ')
  }))))
}

await (what === 'serve' ? serve() : run())
