// Numbers as people read them, with their units. All have one width for one size.

const DECIMAL = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 })
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const MINUTE = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })

export const NOTHING = '–'

export function count (value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} bn`
  if (value >= 1e7) return `${(value / 1e6).toFixed(1)} m`
  return DECIMAL.format(value)
}

// So many a second.
export function rate (value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} m`
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`
  if (value >= 100 || Number.isInteger(value)) return DECIMAL.format(value)
  return value.toFixed(1)
}

// A part of a whole; of nothing there is no share.
export function percent (part, whole) {
  if (!whole) return NOTHING
  const share = 100 * part / whole
  return `${share >= 99.95 || share === 0 ? share.toFixed(0) : share.toFixed(1)} %`
}

export function octets (value) {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1000) return `${unit === 'B' || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${unit}`
    value /= 1024
  }
  return `${value.toFixed(1)} TiB`
}

export function seconds (value) {
  const small = Math.abs(value)
  if (small === 0) return '0 s'
  if (small < 0.001) return `${(value * 1e6).toFixed(0)} µs`
  if (small < 0.01) return `${(value * 1e3).toFixed(2)} ms`
  if (small < 0.1) return `${(value * 1e3).toFixed(1)} ms`
  if (small < 1) return `${(value * 1e3).toFixed(0)} ms`
  if (small < 120) return `${Number.isInteger(value) ? value : value.toFixed(1)} s`
  if (small < 7200) return `${Math.round(value / 60)} min`
  if (small < 172800) return `${(value / 3600).toFixed(1)} h`
  return `${(value / 86400).toFixed(1)} d`
}

// A time of day on this machine.
export const clock = millis => CLOCK.format(millis)
export const minute = millis => MINUTE.format(millis)
