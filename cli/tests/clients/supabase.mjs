// Channels of @supabase/realtime-js and @supabase/supabase-js, 2.x: {"do": "client", "release": "realtime-js-2.119", …} makes
// a client, {"do": "open", …} joins a channel with it.
import { follow, fromLine, load, say, toWebSocket } from './lines.mjs'

const clients = new Map()
const channels = new Map()

const channelOf = ({ client, channel }) => channels.get(`${client}/${channel}`)

async function make({ release, url, token, options: given = {} }) {
  const library = await load(release)
  // The first releases keep to ten messages a second by themselves, unless told otherwise.
  const options = { params: { apikey: token, eventsPerSecond: 1000 }, ...given }
  if (release.startsWith('supabase-js')) {
    return library.createClient(url, token, { realtime: options, auth: { persistSession: false, autoRefreshToken: false } })
  }
  const client = new library.RealtimeClient(`${toWebSocket(url)}/realtime/v1`, options)
  // Applications that come without supabase-js do this themselves.
  await client.setAuth(token)
  client.connect()
  return client
}

function listen(channel, { changes = [], broadcast = [], presence = false }, seen) {
  for (const binding of changes) {
    channel.on('postgres_changes', binding, (payload) => seen('change', { binding: binding.event, payload }))
  }
  for (const event of broadcast) {
    channel.on('broadcast', { event }, (payload) => seen('broadcast', { listening: event, payload }))
  }
  if (presence) {
    for (const event of ['sync', 'join', 'leave']) {
      channel.on('presence', { event }, (payload) => seen(event, { ...payload, state: channel.presenceState() }))
    }
  }
  channel.on('system', {}, (payload) => seen('system', { payload }))
}

follow({
  client: async (command) => {
    clients.set(command.client, await make(command))
  },
  // Makes a channel and joins it not yet.
  channel: ({ client, channel, config }) => {
    channels.set(`${client}/${channel}`, clients.get(client).channel(channel, config ? { config } : undefined))
  },
  open: ({ client, channel: name, config, listen: wanted = {} }) => {
    const seen = (saw, more) => say({ client, channel: name, saw, ...more })
    const channel = clients.get(client).channel(name, config ? { config } : undefined)
    listen(channel, wanted, seen)
    channels.set(`${client}/${name}`, channel)
    channel.subscribe((status, error) => seen('status', { status, error }))
  },
  send: (command) => {
    const payload = fromLine(command.payload)
    const { event, persist } = command
    return channelOf(command).send({ type: 'broadcast', event, payload, ...(persist && { persist }) })
  },
  httpSend: (command) => channelOf(command).httpSend(command.event, fromLine(command.payload)),
  track: (command) => channelOf(command).track(command.payload),
  untrack: (command) => channelOf(command).untrack(),
  presences: (command) => channelOf(command).presenceState(),
  leave: (command) => channelOf(command).unsubscribe(),
  auth: ({ client, token }) => {
    const made = clients.get(client)
    return (made.realtime ?? made).setAuth(token)
  },
  disconnect: ({ client }) => {
    const made = clients.get(client)
    ;(made.realtime ?? made).disconnect()
  },
})
