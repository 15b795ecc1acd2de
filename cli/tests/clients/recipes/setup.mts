// What the recipes of a hosting company's documentation share, as it is written there, with a plain WebSocket client. The page
// that a recipe belongs to is played by `page`.
import WebSocket from 'ws'
import { follow, say } from '../lines.mjs'

export const page = JSON.parse(process.argv[2])

const BASE_URL = page.url.replace(/^http/, 'ws');
const ANON_KEY = page.token;

export function connect(token: string = ANON_KEY): WebSocket {
  const url = `${BASE_URL}/realtime/v1/websocket?apikey=${token}&vsn=1.0.0`;
  return new WebSocket(url);
}

// Phoenix-style frame format
export function send(ws: WebSocket, ref: string, topic: string, event: string, payload: object) {
  ws.send(JSON.stringify({ topic, event, payload, ref }));
}

let myRef = 1;
export const nextRef = () => String(myRef++);

// Not of the recipes: tells of every frame, beats the heart as the first recipe does, and obeys the test.
export function play(ws: WebSocket, commands: object = {}) {
  ws.addEventListener('message', (e) => say({ saw: 'frame', frame: JSON.parse(e.data) }))
  ws.addEventListener('close', (e) => say({ saw: 'close', code: e.code, reason: e.reason }))
  ws.addEventListener('error', (e) => say({ saw: 'error', error: e.message }))
  setInterval(() => send(ws, nextRef(), 'phoenix', 'heartbeat', {}), 30_000)
  follow({ close: () => ws.close(), ...commands })
}
