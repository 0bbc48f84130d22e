// JSON as a tree that opens and closes.
import { h } from './dom.js'

export function tree (value, label = null, depth = 0) {
  const isTree = value !== null && typeof value === 'object'
  const members = isTree ? Object.entries(value).filter(([, member]) => !isNothing(member)) : []
  if (!isTree || members.length === 0) {
    return h('div', { class: 'leaf' }, label && h('span', { class: 'label' }, label), h('span', { class: 'value' }, text(value)))
  }
  const isList = Array.isArray(value)
  const parts = members.map(([name, member]) => tree(member, isList ? brief(member, Number(name)) : words(name), depth + 1))
  if (label === null) return h('div', { class: 'tree' }, parts)
  return h('details', { open: depth < 3 }, h('summary', {}, label), parts)
}

const isNothing = value => value === null || (typeof value === 'object' && Object.keys(value).length === 0)

const words = name => name.replaceAll('_', ' ')

// What tells a member of a list from the others.
function brief (member, at) {
  const name = member !== null && typeof member === 'object' && (member.name ?? member.tag)
  return name || `${at + 1}`
}

function text (value) {
  if (value === null || value === undefined) return 'none'
  if (value === true) return 'yes'
  if (value === false) return 'no'
  if (typeof value === 'object') return 'none'
  return String(value)
}
