// Elements, made of values. Texts become text and nothing else.

export const $ = id => document.getElementById(id)

// An element with these attributes and children. `on…` attributes are listeners, `class` a class.
export function h (tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

const SVG = 'http://www.w3.org/2000/svg'

export function s (tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

function fill (element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined))
  return element
}

// Sets a text, if it is another one: what has not changed is not drawn again, nor read aloud.
export function say (element, text) {
  if (element.textContent !== text) element.textContent = text
}

// A pill that says how something is: `good`, `warn`, `bad`, or nothing.
export function pill (text, kind = '') {
  return h('span', { class: `pill ${kind}` }, text)
}

// Rows by their names: each is made once, and then changed.
export class Rows {
  constructor (parent, make, empty) {
    this.parent = parent
    this.make = make
    this.empty = empty
    this.rows = new Map()
  }

  // `all` are pairs of a name and what `change` of its row is called with.
  show (all) {
    const wanted = new Set(all.map(([name]) => name))
    for (const [name, row] of this.rows) {
      if (!wanted.has(name)) {
        row.element.remove()
        this.rows.delete(name)
      }
    }
    for (const [at, [name, value]] of all.entries()) {
      let row = this.rows.get(name)
      if (!row) {
        row = this.make(name)
        this.rows.set(name, row)
      }
      row.change(value)
      if (this.parent.children[at] !== row.element) this.parent.insertBefore(row.element, this.parent.children[at] ?? null)
    }
    if (all.length === 0) {
      if (!this.nothing) this.nothing = this.empty()
      if (this.nothing.parentNode !== this.parent) this.parent.append(this.nothing)
    } else {
      this.nothing?.remove()
    }
  }
}
