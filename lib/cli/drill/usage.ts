/** The help of `fastify-shutdown drill`. */

/** The help of the command. */
export const usage = `Usage: fastify-shutdown drill [options] -- COMMAND [arguments]
       fastify-shutdown drill [options] --url URL --pid PID

Starts a server, sends requests, sends SIGTERM in the middle, and accounts for every request. It works with any HTTP/1
server.

Server
  --url URL           where the server answers (default: the listening sockets of the command and its children)
  --pid PID           the process of a server that runs already
  --pid-file FILE     a file with this pid, which is read before each signal
  --ready SECONDS     longest wait until the server answers (default: 30)
  --signal NAME       (default: SIGTERM)
  --restarts N        repeats the drill N times, and gives one verdict (default: 1)
  --allow-host NAME   a host that is not this machine; may be repeated

Traffic
  --path PATH         may be repeated (default: the GET operations without required parameters of the OpenAPI document at
                      /documentation/json or /openapi.json, else /)
  --method METHOD     (default: GET)
  --body TEXT         sent as application/json if it is JSON
  --rate N            requests per second (default: 200)
  --connections N     keep-alive connections; as many one-shot connections are used beside them (default: 8)
  --sse PATH          two event streams on this path; may be repeated
  --ws PATH           two WebSockets on this path; may be repeated
  --traffic FILE      JSON: { "requests": [{ "method", "path", "headers", "body", "weight" }], "sse": [], "ws": [],
                      "rate", "connections" }
  --before SECONDS    length of the traffic before the signal (default: 2)

Verdict
  --grace SECONDS     longest time from the signal to the end of the process (default: 30)
  --lost N            lost requests that are allowed: reset, truncated or without an answer (default: 0)

Output
  --json              prints JSON, and nothing else, to standard output
  --html FILE         --junit FILE         --markdown FILE

Exit code: 0 passed, 1 failed, 2 the drill could not run.
`
