// PostgreSQL 18 with pgvector, for one test: PGlite, which is PostgreSQL
// compiled to WebAssembly, behind the wire protocol.
//
//	node server.mjs
//
// listens on a free port of 127.0.0.1, prints "ready PORT", and ends when its
// standard input does. `make test-pgvector` puts it into a folder where
// package.json's packages are installed, and pgtest.PGVector starts it there.
//
// It is less than a server:
//   - one session: a second connection waits until the first is closed, and is
//     refused after a while;
//   - one database, postgres; its superuser is postgres, other roles can log
//     in once they are created; no password is checked, no TLS spoken;
//   - a statement runs to its end: no cancelling, no timeouts;
//   - it reads sockets by their file descriptors, which Windows has not.
//
// PGlite's own socket server will not do: it hands the backend one message
// after the other, and the backend, which has no other thread to wait in,
// finds nothing to read when COPY FROM STDIN wants rows. Here such a read
// blocks on the client's socket.
import fs from 'node:fs'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'

const superuser = 'postgres'
const database = 'postgres'
const queueTime = 10_000 // ms that a second connection waits for its turn
const stallTime = 30_000 // ms without a byte, after which a client counts as gone

// What initdb made is kept next to this file: a start from it takes a quarter
// of the time. The folder goes whenever the packages change.
const cluster = fileURLToPath(new URL('initdb.tar', import.meta.url))

const db = await boot()

async function boot() {
  const options = { dataDir: 'memory://', extensions: { vector } }
  if (fs.existsSync(cluster)) {
    return PGlite.create({ ...options, loadDataDir: new Blob([fs.readFileSync(cluster)]) })
  }
  const db = await PGlite.create(options)
  const dump = await db.dumpDataDir('none')
  const unfinished = `${cluster}.${process.pid}`
  fs.writeFileSync(unfinished, Buffer.from(await dump.arrayBuffer()))
  fs.renameSync(unfinished, cluster)
  return db
}

// --- messages ---------------------------------------------------------------

// message makes a message of a type, a letter, and parts: bytes, or text that
// a NUL shall end.
function message(type, ...parts) {
  const body = Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p + '\0') : p)))
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

function fatal(code, text) {
  return message('E', 'SFATAL', 'VFATAL', 'C' + code, 'M' + text, Buffer.from([0]))
}

// Types follows the backend's output, in whatever pieces it comes, and calls
// seen with every message's type.
class Types {
  #head = Buffer.alloc(5)
  #have = 0 // bytes of #head
  #body = 0 // bytes of the message still to come

  follow(bytes, seen) {
    for (let i = 0; i < bytes.length; ) {
      if (this.#body > 0) {
        const n = Math.min(this.#body, bytes.length - i)
        this.#body -= n
        i += n
        continue
      }
      this.#head[this.#have++] = bytes[i++]
      if (this.#have === 5) {
        this.#have = 0
        this.#body = this.#head.readInt32BE(1) - 4
        seen(String.fromCharCode(this.#head[0]))
      }
    }
  }
}

// --- backend ----------------------------------------------------------------

// execute gives a message to the backend and its output, piece by piece, to
// output. It has run to its end on return. client is whom a COPY reads from.
function execute(bytes, output, client) {
  const options = { syncToFs: false, onRawData: (piece) => output(Buffer.from(piece)) }
  db.execProtocolRawStream(new Input(bytes, client), options).catch((err) => {
    console.error('the backend failed:', err)
    process.exit(1) // it is in no known state
  })
}

// Input is what PGlite takes for a Uint8Array. While a COPY reads, it grows by
// the client's next message whenever the backend has read it to the end.
class Input {
  #bytes
  #client
  #from = 0 // where #bytes begin
  #read = 0 // how far the backend has read

  constructor(bytes, client) {
    this[0] = bytes[0] // PGlite looks at the type
    this.#bytes = bytes
    this.#client = client
  }

  get length() {
    const end = this.#from + this.#bytes.length
    if (!this.#client?.copying || this.#read < end) return end
    this.#from = end
    this.#bytes = this.#client.awaitCopyMessage()
    return this.#from + this.#bytes.length
  }

  subarray(begin, end) {
    this.#read = end
    return this.#bytes.subarray(begin - this.#from, end - this.#from)
  }
}

// run runs a statement for this server itself and gives the error message that
// came of it, if one did.
function run(sql) {
  const pieces = []
  execute(message('Q', sql), (piece) => pieces.push(piece))
  const all = Buffer.concat(pieces)
  for (let at = 0; at + 5 <= all.length; ) {
    const end = at + 1 + all.readInt32BE(at + 1)
    if (all[at] === 'E'.charCodeAt(0)) return all.subarray(at, end)
    at = end
  }
}

const quote = (text) => "'" + text.replaceAll("'", "''") + "'"

// --- clients ----------------------------------------------------------------

const queue = [] // connections; the first has the session

class Connection {
  copying = false // the backend reads rows
  ended = false
  #socket
  #fd
  #input = Buffer.alloc(0) // read from the socket, not yet handled
  #started = false
  #gone = false // its socket takes or gives no more
  #types = new Types()

  constructor(socket) {
    this.#socket = socket.setNoDelay(true)
    this.#fd = socket._handle.fd
    socket.on('data', (bytes) => {
      this.#input = Buffer.concat([this.#input, bytes])
      if (queue[0] === this) this.#serve()
      else if (this.#asksToCancel()) this.end()
    })
    for (const event of ['end', 'close', 'error']) socket.on(event, () => this.end())
    queue.push(this)
    if (queue[0] !== this) setTimeout(() => this.#refuse(), queueTime).unref()
  }

  #refuse() {
    if (this.ended || queue[0] === this) return
    this.#write(fatal('53300', 'another connection has the only session'))
    this.end()
  }

  // end closes the connection; the next one finds a session like new.
  end() {
    if (this.ended) return
    this.ended = true
    this.#socket.destroy()
    const had = queue[0] === this
    queue.splice(queue.indexOf(this), 1)
    if (!had) return
    execute(message('S'), () => {}) // after an error nothing else is heard
    for (const sql of ['ROLLBACK', `SET SESSION AUTHORIZATION ${superuser}`, 'DISCARD ALL']) run(sql)
    queue[0]?.#serve()
  }

  // serve handles the messages that have come.
  #serve() {
    for (let next; !this.ended && (next = this.#next()); ) this.#handle(next)
  }

  // next takes a whole message from the input, if there is one. Those before
  // the session's start have no type.
  #next() {
    const type = this.#started ? 1 : 0
    if (this.#input.length < type + 4) return
    const end = type + this.#input.readInt32BE(type)
    if (this.#input.length < end) return
    const next = this.#input.subarray(0, end)
    this.#input = this.#input.subarray(end)
    return next
  }

  #handle(bytes) {
    if (!this.#started) return this.#start(bytes)
    switch (String.fromCharCode(bytes[0])) {
      case 'X':
        return this.end()
      case 'd':
      case 'c':
      case 'f':
        return // the rest of a COPY that failed
    }
    this.#execute(bytes)
  }

  #execute(bytes) {
    const output = (piece) => {
      this.#types.follow(piece, (type) => {
        if (type === 'G') this.copying = true // it waits for rows
        if (type === 'E') this.copying = false
      })
      this.#write(piece)
    }
    execute(bytes, output, this)
  }

  #asksToCancel() {
    return this.#input.length >= 8 && this.#input.readInt32BE(4) === 80877102
  }

  // start handles what comes before the session: requests for encryption, and
  // then the startup message.
  #start(bytes) {
    switch (bytes.readInt32BE(4)) {
      case 80877103: // TLS
      case 80877104: // GSSAPI
        return this.#write(Buffer.from('N'))
      case 80877102: // to cancel
        return this.end()
    }
    const words = bytes.subarray(8).toString().split('\0')
    const settings = new Map()
    for (let i = 0; i + 1 < words.length && words[i]; i += 2) settings.set(words[i], words[i + 1])
    const error = this.#refusal(settings)
    if (error) {
      this.#write(error)
      return this.end()
    }
    this.#started = true
    this.#execute(bytes)
  }

  // refusal does what PGlite leaves out of a session's start, and gives the
  // error of it.
  #refusal(settings) {
    const user = settings.get('user')
    const wanted = settings.get('database') ?? user
    if (wanted !== database) return fatal('3D000', `database "${wanted}" does not exist`)
    const changes = user === superuser ? [] : [['session_authorization', user]]
    changes.push(...fromOptions(settings.get('options') ?? ''))
    for (const [name, value] of settings) {
      if (!['user', 'database', 'options', 'replication'].includes(name) && !name.startsWith('_pq_.')) {
        changes.push([name, value])
      }
    }
    for (const [name, value] of changes) {
      const error = run(`SELECT set_config(${quote(name)}, ${quote(value)}, false)`)
      if (error) return Buffer.from(error.toString('latin1').replaceAll('ERROR\0', 'FATAL\0'), 'latin1')
    }
  }

  // awaitCopyMessage blocks until the client's next message has come; from a
  // client that is gone it is the end of the COPY by failure.
  awaitCopyMessage() {
    const chunk = Buffer.alloc(1 << 17)
    const deadline = Date.now() + stallTime
    for (let next; ; ) {
      next = this.#next() ?? (this.#gone ? message('f', 'the client is gone') : undefined)
      if (next) {
        if ('cf'.includes(String.fromCharCode(next[0]))) this.copying = false
        return next
      }
      let n = 0
      try {
        n = fs.readSync(this.#fd, chunk)
        this.#gone = n === 0
      } catch (err) {
        this.#gone = err.code !== 'EAGAIN' || Date.now() > deadline
        nap()
      }
      this.#input = Buffer.concat([this.#input, chunk.subarray(0, n)])
    }
  }

  // write blocks until the socket has taken the bytes. A client that takes none
  // is gone and gets no more.
  #write(bytes) {
    const deadline = Date.now() + stallTime
    for (let at = 0; at < bytes.length && !this.#gone; ) {
      try {
        at += fs.writeSync(this.#fd, bytes, at)
      } catch (err) {
        this.#gone = err.code !== 'EAGAIN' || Date.now() > deadline
        nap()
      }
    }
  }
}

// fromOptions gives the settings, [name, value], of a connection's options:
// "-c name=value --name=value", a backslash before a space that is meant.
function fromOptions(options) {
  const words = (options.match(/(?:\\.|\S)+/g) ?? []).map((word) => word.replace(/\\(.)/g, '$1'))
  const settings = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] === '-c' ? words[++i] ?? '' : words[i].replace(/^(-c|--)/, '')
    const [name] = word.split('=', 1)
    settings.push([name, word.slice(name.length + 1)])
  }
  return settings
}

const never = new Int32Array(new SharedArrayBuffer(4))

// nap blocks for a moment.
function nap() {
  Atomics.wait(never, 0, 0, 0.2)
}

const server = net.createServer((socket) => new Connection(socket))
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`))
process.stdin.resume()
for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0))
