/** What to do about each reason of a failed drill. The hints hold for any server. */

/** The hints, by reason. */
export const hints = {
  lostBefore: 'Requests were lost before the signal, too. First find out why the server loses requests while it ' +
    'runs.',
  resetBefore: 'The server closes connections with a request in flight. Wait for the last answer before the exit, ' +
    'and answer with Connection: close for a short time before idle connections are closed.',
  resetAfter: 'The server ends while answers are being written. Wait until each answer is flushed before the exit.',
  truncated: 'Answers end before their Content-Length or their last chunk. End each answer properly, and wait ' +
    'until it is flushed before the exit.',
  hung: 'Requests got no answer. Reject new requests with 503 while the server drains, and limit the time of ' +
    'each handler.',
  streams: 'Event streams were cut. End each stream when the shutdown begins, so that its client connects to ' +
    'another instance.',
  webSockets: 'WebSockets ended without a close frame. Send close code 1001 to each one when the shutdown begins.',
  retryAfter: 'Add Retry-After to each 503 of the shutdown, so that clients and proxies know when to repeat the ' +
    'request.',
  exitCode: 'Exit with code 0 after a shutdown without an error. Other codes look like a crash to the ' +
    'orchestrator.',
  endedBySignal: 'The process has no handler for this signal, or ends itself by it. Handle the signal: stop listening, ' +
    'wait for the requests in flight, then exit with code 0.',
  orphan: 'End the children before the parent. If a shell or npm starts the server, the signal may not reach ' +
    'it: start the server directly, or with exec.',
  openListener: 'Close each listening socket. A process that the server has started may have inherited it.',
  grace: 'The orchestrator sends SIGKILL at this time. Limit the drain, close idle keep-alive connections, and ' +
    'look for timers and connections that keep the process alive.',
  signalIgnored: 'Add a handler for the signal. As the first process of a container, a program without a handler ' +
    'ignores it. A shell or npm may not forward it.'
} as const
