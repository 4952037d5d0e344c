// A line begins with the name of the page that wrote it, so that the page
// recognizes its own lines when they come back.
const name = Math.random().toString(36).slice(2, 8)
const form = document.querySelector("form"), input = document.querySelector("input")
const state = document.querySelector("p"), log = document.querySelector("pre")

// Lines that have not come back. If the server closes the connection in good
// order, nobody has got them: they are sent again over the next one. If the
// connection breaks, others may have got them, and get them twice.
const unsaid = []

const minDelay = 1000, maxDelay = 30_000 // ms
let delay = minDelay, ws

function connect() {
  let joined = false
  ws = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/chat`)
  ws.onopen = () => {
    joined = true
    delay = minDelay
    for (const line of unsaid) ws.send(line)
    show()
  }
  ws.onmessage = e => {
    if (e.data.startsWith(name + ": ")) unsaid.shift() // they come back in order
    log.append(e.data + "\n")
    show()
  }
  ws.onclose = e => {
    if (joined) log.append(`closed: ${e.code} ${e.reason}\n`)
    // A random delay, so that the pages do not all reach a new server at once.
    setTimeout(connect, delay * (1 + Math.random()) / 2)
    delay = Math.min(2 * delay, maxDelay)
    show()
  }
  show()
}

function show() {
  const connected = ws.readyState === WebSocket.OPEN
  state.textContent = (connected ? "connected" : "not connected, trying again") +
    (unsaid.length ? `; ${unsaid.length} to be sent` : "")
}

form.onsubmit = e => {
  e.preventDefault()
  if (!input.value) return
  const line = `${name}: ${input.value}`
  unsaid.push(line)
  if (ws.readyState === WebSocket.OPEN) ws.send(line)
  input.value = ""
  show()
}

// The browser asks before it leaves the page with lines that nobody has got.
onbeforeunload = e => { if (unsaid.length) e.preventDefault() }

connect()
