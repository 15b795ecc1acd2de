// Channels of the plain Phoenix client.
import { Presence, Socket } from 'phoenix'
import WebSocket from 'ws'
import { follow, say, toWebSocket } from './lines.mjs'

const sockets = new Map()
const channels = new Map()

const channelOf = ({ client, channel }) => channels.get(`${client}/${channel}`)

// A push as the promise of its reply.
const replied = (push) =>
  new Promise((resolve) => {
    for (const status of ['ok', 'error', 'timeout']) {
      push.receive(status, (response) => resolve({ status, response: response ?? null }))
    }
  })

follow({
  client: ({ client, url, token, path = '/socket', options = {} }) => {
    const socket = new Socket(`${toWebSocket(url)}${path}`, { transport: WebSocket, params: { apikey: token }, ...options })
    socket.onError((error) => say({ client, saw: 'error', error: error?.message ?? null }))
    socket.connect()
    sockets.set(client, socket)
  },
  open: ({ client, channel: topic, payload = {}, listen = [] }) => {
    const channel = sockets.get(client).channel(topic, payload)
    for (const event of listen) {
      channel.on(event, (seen) => say({ client, channel: topic, saw: event, payload: seen }))
    }
    channel.onClose(() => say({ client, channel: topic, saw: 'closed' }))
    const presence = new Presence(channel)
    presence.onSync(() => say({ client, channel: topic, saw: 'sync', state: presence.state }))
    channels.set(`${client}/${topic}`, channel)
    return replied(channel.join())
  },
  push: (command) => replied(channelOf(command).push(command.event, command.payload)),
  leave: (command) => replied(channelOf(command).leave()),
})
