// Subscriptions of the 1.x releases, whose joins have no config: the topic says what is meant.
import { follow, load, say, toWebSocket } from './lines.mjs'

const clients = new Map()
const events = ['INSERT', 'UPDATE', 'DELETE', '*']

follow({
  client: async ({ client, release, url, token }) => {
    const library = await load(release)
    if (release.startsWith('supabase-js')) {
      const made = library.createClient(url, token, { persistSession: false, autoRefreshToken: false })
      made.realtime.setAuth(token)
      clients.set(client, made)
    } else {
      const made = new library.RealtimeClient(`${toWebSocket(url)}/realtime/v1`, { params: { apikey: token } })
      made.connect()
      clients.set(client, made)
    }
  },
  // realtime-js: a topic.
  open: ({ client, channel, token }) => {
    const subscription = clients.get(client).channel(channel, token ? { user_token: token } : {})
    for (const event of events) {
      subscription.on(event, (payload) => say({ client, channel, saw: 'change', listening: event, payload }))
    }
    subscription.on('system', (payload) => say({ client, channel, saw: 'system', payload }))
    subscription
      .subscribe()
      .receive('ok', (response) => say({ client, channel, saw: 'joined', response }))
      .receive('error', (response) => say({ client, channel, saw: 'refused', response }))
  },
  // supabase-js: a table, or `table:column=eq.value`.
  from: ({ client, channel, event }) => {
    clients
      .get(client)
      .from(channel)
      .on(event, (payload) => say({ client, channel, saw: 'change', listening: event, payload }))
      .subscribe((status, error) => say({ client, channel, saw: 'status', status, error }))
  },
  auth: ({ client, token }) => {
    const made = clients.get(client)
    return (made.realtime ?? made).setAuth(token)
  },
})
