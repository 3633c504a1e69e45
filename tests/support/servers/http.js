// http.js -- the web server of the specs: one program, on TCP, TLS and a unix socket. Prints its ports, ends with its standard input.
//
//   /ok /status/N /echo /chunked /big?bytes=N /redirect?to=URL /auth (401, repeats what it was told) /flaky?name=X&bad=N
//   /slow?ms=N   /together?n=N (answers when so many wait here)   /stall (a head and half a body, then nothing)   /never (no answer)   /cut (half a body, then the connection ends)
//   /odd?status=N (escape sequences, NUL and bytes that are no UTF-8 in the reason, a header and the body)
//   /drop (takes the request, ends the connection)   /counts (requests so far, by method and path)
const fs = require("fs"), http = require("http"), https = require("https");
const [dir, key, cert] = process.argv.slice(2);
const counts = {}, flaky = {}, waiting = [];
let live = 0, most = 0;

const routes = {
  "/ok": (req, res) => res.end("hello\n"),
  "/echo": (req, res, url, body) => {
    res.setHeader("Content-Type", "application/json");
    res.setHeader("X-Twice", ["one", "two"]);
    res.end(JSON.stringify({ method: req.method, path: req.url, headers: req.headers, body: body.toString() }));
  },
  "/chunked": (req, res) => { for (const part of ["one,", "two,", "three"]) res.write(part); res.end(); },
  "/big": (req, res, url) => {
    let left = +url.searchParams.get("bytes");
    const piece = Buffer.alloc(65536, "x");
    if (url.searchParams.get("length")) res.setHeader("Content-Length", left);
    const more = () => {
      while (left > 0 && !res.destroyed) {
        const n = Math.min(left, piece.length);
        left -= n;
        if (!res.write(piece.subarray(0, n))) return res.once("drain", more);
      }
      res.end();
    };
    more();
  },
  "/redirect": (req, res, url) => { res.writeHead(+url.searchParams.get("status") || 302, { Location: url.searchParams.get("to") }); res.end("elsewhere"); },
  "/auth": (req, res) => { res.statusCode = 401; res.setHeader("X-Told", req.headers.authorization || "nothing"); res.end("no: " + req.headers.authorization); },
  "/flaky": (req, res, url) => {
    const name = url.searchParams.get("name");
    flaky[name] = (flaky[name] || 0) + 1;
    const bad = url.searchParams.get("bad").split(",").includes(String(flaky[name]));
    res.statusCode = bad ? 503 : 200;
    res.end(bad ? "not yet" : "fine");
  },
  "/slow": (req, res, url) => setTimeout(() => res.end("slow"), +url.searchParams.get("ms")),
  "/together": (req, res, url) => {
    waiting.push(res);
    if (waiting.length >= +url.searchParams.get("n")) for (const one of waiting.splice(0)) one.end("together");
  },
  "/stall": (req, res) => { res.writeHead(200, { "Content-Length": 100 }); res.write("x".repeat(50)); },
  "/never": () => {},
  "/cut": (req, res) => { res.writeHead(200, { "Content-Length": 100 }); res.write("x".repeat(50), () => req.socket.destroy()); },
  "/odd": (req, res, url) => {
    const odd = Buffer.from("1b5d303b6f776e6564071b5b324a1b5b33316d7265641b5d35323b633b61476b3d0700fffec328e280ae9b33316d08", "hex");
    const head = Buffer.concat([Buffer.from(`HTTP/1.1 ${url.searchParams.get("status") || 200} Fine `), odd.subarray(0, 20), Buffer.from("\r\nX-Odd: "),
      odd.subarray(0, 34), Buffer.from(`\r\nContent-Length: ${odd.length}\r\nConnection: close\r\n\r\n`)]);
    req.socket.end(Buffer.concat([head, odd]));
  },
  "/drop": (req) => req.socket.destroy(),
  "/counts": (req, res) => res.end(JSON.stringify({ counts, most })),
};

const answer = (req, res) => {
  const url = new URL(req.url, "http://x"), parts = [];
  const name = req.method + " " + url.pathname;
  counts[name] = (counts[name] || 0) + 1;
  most = Math.max(most, ++live);
  res.on("close", () => live--);
  req.on("data", (part) => parts.push(part));
  req.on("end", () => {
    const status = url.pathname.match(/^\/status\/(\d+)$/);
    if (status) { res.statusCode = +status[1]; return res.end("status " + status[1]); }
    if (!routes[url.pathname]) { res.statusCode = 404; return res.end("no such page"); }
    routes[url.pathname](req, res, url, Buffer.concat(parts));
  });
};

const plain = http.createServer(answer), safe = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, answer);
const local = http.createServer(answer), other = http.createServer(answer);
for (const server of [plain, safe, local, other]) server.keepAliveTimeout = 0;      // a connection stays for as long as its client wants it to
const listen = (server, ...where) => new Promise((done) => server.listen(...where, () => done(server.address().port)));
Promise.all([listen(plain, 0, "127.0.0.1"), listen(safe, 0, "127.0.0.1"), listen(other, 0, "127.0.0.1"), listen(local, dir + "/http.sock")])
  .then((ports) => console.log("ready " + ports.slice(0, 3).join(" ")));
process.stdin.on("end", () => process.exit(0)).resume();
