// What the drivers share: commands come as one JSON object a line, what clients see goes out likewise.
import { createInterface } from 'node:readline'

// A binary payload is written as {"binary": "<base64>"}, both ways.
const isBinary = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value)

function toLine(key, value) {
  if (isBinary(value)) return { binary: Buffer.from(value.buffer ?? value).toString('base64') }
  if (value instanceof Error) return value.message || value.name
  return value
}

export function say(seen) {
  process.stdout.write(JSON.stringify(seen, toLine) + '\n')
}

export function fromLine(payload) {
  if (typeof payload?.binary !== 'string') return payload
  const bytes = Buffer.from(payload.binary, 'base64')
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
}

// Runs the commands in their order; one that takes its time does not hold up the next. Ends with its input.
export function follow(commands) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    const command = JSON.parse(line)
    const about = { client: command.client, channel: command.channel }
    try {
      const result = await commands[command.do](command)
      say({ ...about, saw: 'done', did: command.do, result: result ?? null })
    } catch (error) {
      say({ ...about, saw: 'failed', did: command.do, error })
    }
  })
  lines.on('close', () => process.exit(0))
  say({ saw: 'up' })
}

export async function load(release) {
  const module = await import(release)
  return { ...module.default, ...module }
}

export const toWebSocket = (url) => url.replace(/^http/, 'ws')
