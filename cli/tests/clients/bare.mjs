// Frames as they are, over a plain WebSocket: {"do": "connect", "url": …}, then {"do": "frame", "text": …}.
import WebSocket from 'ws'
import { follow, say } from './lines.mjs'

const sockets = new Map()

follow({
  connect: ({ client, url, headers, options }) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url, { headers, ...options })
      sockets.set(client, socket)
      socket.on('message', (data, isBinary) => {
        say({ client, saw: 'frame', ...(isBinary ? { binary: data.toString('base64') } : { frame: JSON.parse(data.toString()) }) })
      })
      socket.on('close', (code, reason) => say({ client, saw: 'close', code, reason: reason.toString() }))
      socket.on('open', () => resolve({ status: 101, extensions: socket.extensions }))
      socket.on('unexpected-response', (_request, response) => {
        let body = ''
        response.on('data', (chunk) => (body += chunk))
        response.on('end', () => resolve({ status: response.statusCode, body }))
      })
      socket.on('error', (error) => resolve({ status: null, error: error.message }))
    }),
  text: ({ client, text }) => sockets.get(client).send(text),
  frame: ({ client, frame }) => sockets.get(client).send(JSON.stringify(frame)),
  binary: ({ client, base64 }) => sockets.get(client).send(Buffer.from(base64, 'base64')),
  close: ({ client, code }) => sockets.get(client).close(code),
  // Reads no more of what comes, or goes on.
  hold: ({ client, hold }) => sockets.get(client)[hold ? 'pause' : 'resume'](),
  bytesRead: ({ client }) => sockets.get(client)._socket.bytesRead,
  cut: ({ client }) => sockets.get(client).terminate(),
})
