// Many realtime-js clients of one application: each joins one channel, tracks itself whenever it is joined, and notes what it
// is given. {"do": "start", "count": 200, …} starts them, {"do": "report"} says how they are.
import { follow, load, toWebSocket } from './lines.mjs'

const members = []

class Member {
  constructor(library, { url, token, topic, table, options }, number) {
    this.joins = 0
    this.joined = false
    this.twice = []
    this.seen = new Set()
    this.newest = 0
    this.client = new library.RealtimeClient(`${toWebSocket(url)}/realtime/v1`, { params: { apikey: token }, ...options })
    this.channel = this.client.channel(topic, { config: { presence: { key: `member-${number}` } } })
    this.channel
      .on('presence', { event: 'sync' }, () => {})
      .on('broadcast', { event: 'number' }, ({ payload }) => this.note('broadcast', payload.number))
      .on('postgres_changes', { event: 'INSERT', schema: 'public', table }, (change) => this.note('change', change.new.id))
      .subscribe((status) => this.changed(status, number))
  }

  changed(status, number) {
    this.joined = status === 'SUBSCRIBED'
    if (!this.joined) return
    this.joins += 1
    this.seen.clear()
    this.channel.track({ number, join: this.joins }).catch(() => {})
  }

  note(kind, number) {
    const what = `${kind} ${number}`
    if (this.seen.has(what)) this.twice.push(what)
    this.seen.add(what)
    if (kind === 'change') this.newest = Math.max(this.newest, number)
  }

  // Whether exactly everybody is here, each once and as of the last join.
  hasAll() {
    const state = this.channel.presenceState()
    return (
      Object.keys(state).length === members.length &&
      members.every((member, number) => {
        const metas = state[`member-${number}`]
        return metas?.length === 1 && metas[0].join === member.joins
      })
    )
  }
}

follow({
  start: async ({ count, release, ...about }) => {
    const library = await load(release)
    for (let number = 0; number < count; number++) members.push(new Member(library, about, number))
  },
  report: () => ({
    joined: members.filter((member) => member.joined).length,
    joins: members.reduce((sum, member) => sum + member.joins, 0),
    complete: members.filter((member) => member.hasAll()).length,
    oldest_newest: Math.min(...members.map((member) => member.newest)),
    twice: members.flatMap((member) => member.twice).slice(0, 10),
  }),
})
