// The vectors of crates/protocol/conformance against the serializers of other people's clients, in both directions: what they
// write is what the server reads, and what the server writes is what they see. Says for each release how many agreed.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Socket } from 'phoenix'
import { load, say } from './lines.mjs'

const vectors = JSON.parse(readFileSync(new URL('../../../crates/protocol/conformance/vectors.json', import.meta.url), 'utf8'))

// What a release can write: `broadcast` is the binary frame of broadcasts (kind 3), `push` that of Phoenix (kind 0); `names` in
// UTF-8 rather than a byte for each character, `metadata` beside the payload. Those without binary frames read none either.
const releases = [
  { release: 'realtime-js-1', vsn: '1.0.0' },
  { release: 'realtime-js-2.4', vsn: '1.0.0' },
  { release: 'realtime-js-2.11', vsn: '1.0.0' },
  { release: 'realtime-js-2.109', vsn: '1.0.0' },
  { release: 'realtime-js-2.109', vsn: '2.0.0', broadcast: true },
  { release: 'realtime-js-2.119', vsn: '1.0.0' },
  { release: 'realtime-js-2.119', vsn: '2.0.0', broadcast: true, names: true, metadata: true },
  { release: 'phoenix', vsn: '2.0.0', push: true },
]

const bytes = (base64) => Buffer.from(base64, 'base64')
const toArrayBuffer = (buffer) => buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.length)
const isText = ({ text }) => typeof text === 'string'
const value = ({ encoding, data }) => (encoding === 'json' ? JSON.parse(bytes(data)) : toArrayBuffer(bytes(data)))

// Bytes as something that is compared by its content.
function comparable(seen) {
  if (seen instanceof ArrayBuffer) return { binary: Buffer.from(seen).toString('base64') }
  if (Array.isArray(seen)) return seen.map(comparable)
  if (seen && typeof seen === 'object') return Object.fromEntries(Object.entries(seen).map(([key, of]) => [key, comparable(of)]))
  return seen
}

async function serializer({ release, vsn }) {
  if (release === 'phoenix') return new Socket('/socket', { vsn, transport: class {} })
  const { RealtimeClient } = await load(release)
  return new RealtimeClient('ws://localhost/realtime/v1', { vsn, params: { apikey: 'x' } })
}

// The message that a client writes as this frame; nothing where this release does not write it so.
function message(vector, { release, push, broadcast, names, metadata }) {
  const { frame } = vector
  if (!frame) return
  const { payload, ...rest } = frame
  if (isText(vector)) {
    // Blanks and further members are taken, and not written.
    const isOwn = JSON.stringify(JSON.parse(vector.text)) === vector.text
    return isOwn ? { ...rest, payload } : undefined
  }
  if (!('user_event' in payload)) return push && { ...rest, payload: toArrayBuffer(bytes(payload.data)) }
  const isAscii = /^[\x00-\x7f]*$/.test(frame.topic + payload.user_event)
  const isStandard = bytes(vector.binary)[6] === (payload.encoding === 'json' ? 1 : 0)
  if (!broadcast || !isStandard || !(names || isAscii) || (payload.metadata && !metadata)) return
  const own = payload.metadata ? JSON.parse(payload.metadata) : {}
  return { ...rest, payload: { type: 'broadcast', event: payload.user_event, payload: value(payload), ...own } }
}

function writes(client, release) {
  const written = vectors.decode.filter((vector) => vector.vsn === release.vsn && message(vector, release))
  for (const vector of written) {
    const made = message(vector, release)
    // The first version has its members in this order.
    const { topic, event, payload, ref, join_ref } = made
    const ordered = { topic, event, payload, ref, ...(join_ref === null && release.vsn === '1.0.0' ? {} : { join_ref }) }
    client.encode(ordered, (sent) => {
      const said = typeof sent === 'string' ? { text: sent } : { binary: Buffer.from(sent).toString('base64') }
      assert.deepEqual(said, isText(vector) ? { text: vector.text } : { binary: vector.binary }, `${vector.name}: written`)
    })
  }
  return written.length
}

// A broadcast as the application sees it.
function seen({ verbatim, batch, database, user }) {
  if (verbatim) return JSON.parse(verbatim)
  if (batch) return { type: 'broadcast', event: batch.event, payload: JSON.parse(batch.payload) }
  const { event, id } = user ?? database
  return { type: 'broadcast', event, payload: value(user ?? database), ...(id && { meta: { id } }) }
}

// What the server sends in this version, and what is to be read in it.
function* sent(vsn) {
  for (const vector of vectors.encode) {
    const { join_ref, ref, topic, event } = vector
    yield [vector, { text: vector[vsn] }, { join_ref, ref, topic, event, payload: JSON.parse(vector.payload) }]
  }
  for (const vector of vectors.broadcast) {
    yield [vector, vector[vsn], { join_ref: null, ref: null, topic: vector.topic, event: 'broadcast', payload: seen(vector.broadcast) }]
  }
  for (const vector of vectors.replay) {
    const { join_ref, topic, event, id } = vector
    const payload = { type: 'broadcast', event, payload: value(vector), meta: { replayed: true, id } }
    const isShared = vector[vsn] && !isText(vector[vsn])
    yield [vector, vector[vsn], { join_ref: isShared ? null : join_ref, ref: null, topic, event: 'broadcast', payload }]
  }
}

function reads(client, { vsn, broadcast }) {
  let count = 0
  for (const [{ name }, frame, expected] of sent(vsn)) {
    if (!frame || !(broadcast || isText(frame))) continue
    // The first version has no join_ref.
    if (vsn === '1.0.0') delete expected.join_ref
    const raw = isText(frame) ? frame.text : toArrayBuffer(bytes(frame.binary))
    client.decode(raw, (got) => assert.deepEqual(comparable(got), comparable(expected), `${name}: read`))
    count += 1
  }
  return count
}

for (const release of releases) {
  const client = await serializer(release)
  say({ release: release.release, vsn: release.vsn, wrote: writes(client, release), read: reads(client, release) })
}
process.exit(0)
