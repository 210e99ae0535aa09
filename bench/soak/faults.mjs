/**
 * The faults that are injected, what happens, and the tests that show it. A test compares the titles with the test
 * files. A value in the middle of a title is written as `…`.
 */

/** @typedef {{ fault: string, result: string, shown: readonly (readonly [file: string, title: string] | string)[] }} Fault `shown`: a test, or a command */

/** @type {readonly { part: string, faults: readonly Fault[] }[]} */
export const faults = [
  {
    part: 'Servers that the app uses',
    faults: [
      {
        fault: 'Redis is frozen: connections stay open, no answer comes',
        result: 'An idle client closes at once. A client with work is forced, and its work is rejected',
        shown: [
          ['test/services/redis.test.ts', 'node-redis: an idle client of a frozen server closes quickly and cleanly, or by force in version 4'],
          ['test/services/redis.test.ts', 'force destroys a socket to a frozen server at once, and not after the 2 s of ioredis'],
          ['test/examples/service/redis.test.ts', 'a frozen Redis delays one request, and not each']
        ]
      },
      {
        fault: 'PostgreSQL is frozen',
        result: 'An idle pool closes at once. The service still stops, and readiness returns after the outage',
        shown: [
          ['test/services/postgres.test.ts', 'a frozen server does not delay an idle pool'],
          ['test/services/postgres.test.ts', 'readiness returns after the network to PostgreSQL was silent, though its frozen queries never settle'],
          ['test/examples/service/postgres.test.ts', 'a frozen one costs the time of a query, and the service still stops']
        ]
      },
      {
        fault: 'PostgreSQL is killed, or restarts under load',
        result: 'The process goes on. No acknowledged order is lost',
        shown: [
          ['test/services/postgres.test.ts', 'a server that dies while clients are checked out does not end the process'],
          ['test/examples/service/postgres.test.ts', 'by …, under load: each answer is 201 or 503, and no acknowledged order is lost']
        ]
      },
      {
        fault: 'a client of the pool is never released',
        result: 'It is closed by force, and the report has the stack trace of the code that took it',
        shown: [['test/services/postgres.test.ts', 'force ends the clients that are not released, and the detail has their count and the stacks that took them']]
      },
      {
        fault: 'any server with an adapter is frozen or killed while a client has work',
        result: 'Force closes the client at once and settles its work',
        shown: [
          ['test/helpers/resource-contract.ts', '…: on a frozen server close waits for the work, and force closes at once and settles the work'],
          ['test/helpers/resource-contract.ts', '…: on a dead server close settles soon, with or without force, and so does the work']
        ]
      },
      {
        fault: 'a message broker is frozen',
        result: 'Close waits for the acknowledgement, and force rejects the publish',
        shown: [['test/services/others.test.ts', 'close waits for an acknowledgement from a frozen broker, and force rejects the publish']]
      },
      {
        fault: 'a worker of a queue is killed',
        result: 'No job is lost',
        shown: [['test/services/queue-loss.test.ts', '1 000 jobs survive a worker that stops and a worker that is killed']]
      }
    ]
  },
  {
    part: 'Code of the app and of other packages',
    faults: [
      {
        fault: 'a handler, a stream and a resource are stuck together',
        result: 'The total timeout holds to within 100 ms',
        shown: [['test/http/drains/drain.test.ts', 'a stuck handler, a stuck stream and a stuck resource together keep the total timeout to within 100 ms']]
      },
      {
        fault: 'a hook fails or hangs',
        result: 'The other hooks run, the resources close, and the report names the hook',
        shown: [
          ['test/resources/close-hooks.test.ts', 'if a hook fails or hangs, the others run, the resources close, and each failure has a name'],
          ['test/lifecycle/app-close.test.ts', 'hooks that hang leave the resources their reserve']
        ]
      },
      {
        fault: '`pause()` of a resource fails or hangs',
        result: 'It is reported. The resources keep their time',
        shown: [
          ['test/lifecycle/shutdown.test.ts', 'that fails or hangs is reported, and changes nothing else'],
          ['test/lifecycle/shutdown.test.ts', 'that hangs does not eat the resources\' time']
        ]
      },
      {
        fault: 'resources fail or hang, up to 10 000 at the same time',
        result: 'Each of them takes at most its own timeout, and the others close',
        shown: [
          ['test/resources/teardown.test.ts', 'a resource that fails or hangs costs its own time, its error is kept, and the others close'],
          ['test/resources/teardown.test.ts', '10 000 resources that hang are abandoned together']
        ]
      },
      {
        fault: 'the boot never ends',
        result: '`start()` resolves, and the resources close',
        shown: [['test/lifecycle/app-close.test.ts', 'does not keep start() pending, and the resources close']]
      },
      {
        fault: 'hooks and listeners throw hostile values, such as a Proxy that throws',
        result: 'The shutdown ends, and the report has an error',
        shown: [['test/lifecycle/hostile-values.test.ts', 'as what hooks and listeners throw']]
      },
      {
        fault: 'a subscriber of diagnostics_channel throws',
        result: 'The outcome, the other subscribers and the process are not affected',
        shown: [['test/exporters/diagnostics-channel.test.ts', 'a subscriber that throws does not affect the outcome, the other subscribers and the process']]
      },
      {
        fault: 'another plugin destroys a request during the drain',
        result: 'The request is counted as cut, and the shutdown is not clean',
        shown: [['test/http/destroyed.test.ts', 'a request that another plugin destroys in … with … is cut, and the shutdown is not clean']]
      }
    ]
  },
  {
    part: 'Our own code',
    faults: [
      {
        fault: 'each method that a shutdown calls in our own code throws, one method in each run, with traffic',
        result: 'The shutdown ends in time, the resources close, and the report has the error',
        shown: [['test/lifecycle/containment.test.ts', 'a shutdown of … in which any step throws ends in time and closes the resources']]
      },
      {
        fault: 'random faults at random times, in 2 000 simulated shutdowns',
        result: 'No rule of the lifecycle is broken',
        shown: [['test/simulation/simulation.test.ts', 'no rule is broken in 2 000 shutdowns with random faults'], 'npm run simulate']
      },
      {
        fault: 'the shutdown never ends',
        result: 'The process exits with 1 after the budget',
        shown: [['test/process/listeners.test.ts', 'the process exits with 1 after the budget and the backstop, if a shutdown never ends']]
      }
    ]
  },
  {
    part: 'The process',
    faults: [
      {
        fault: 'an uncaught error, also during the drain',
        result: 'Requests in flight complete, resources close, and the exit code is 1',
        shown: [['test/process/exits.test.ts', 'by … during a shutdown: requests in flight complete, resources close, and the exit code is 1']]
      },
      {
        fault: 'a second signal',
        result: 'The process exits at once with 1. A duplicate within 100 ms is ignored',
        shown: [
          ['test/process/signals.test.ts', 'a deliberate second signal exits at once with 1, and the last log line names what is pending'],
          ['test/process/signals.test.ts', 'a duplicate within 100 ms is ignored'],
          ['test/process/signals.test.ts', '100 signals in 100 ms start one shutdown']
        ]
      },
      {
        fault: 'a signal during the boot',
        result: 'What has started closes, and the server does not listen',
        shown: [['test/process/signals.test.ts', 'closes what has started after the boot, and the server does not listen']]
      },
      {
        fault: 'the event loop is blocked, or the process is stopped (SIGSTOP)',
        result: 'The process ends right after it continues, and the resources close',
        shown: [
          ['test/process/signals.test.ts', 'an event loop that was blocked longer than the budget leads to exit code 1 right after'],
          ['test/process/exits.test.ts', 'is 1 if the process was stopped for longer than its time, and the resources close when it continues']
        ]
      },
      {
        fault: 'an `exit` listener throws, or a crash reporter never ends',
        result: 'The process ends in time',
        shown: [
          ['test/wild/other-owners.test.ts', "an 'exit' listener that throws cannot keep the process alive, and is shown on stderr"],
          ['test/wild/other-owners.test.ts', 'a crash reporter that never ends has 2 s']
        ]
      },
      {
        fault: 'the primary of a cluster is killed',
        result: 'The workers complete their responses and exit',
        shown: [['test/process/reload.test.ts', 'workers complete their responses after their primary was killed, and then exit']]
      },
      {
        fault: 'restarts in one process, more than a thousand times',
        result: 'Closed instances are garbage-collected. Memory, handles and listeners are flat',
        shown: [
          ['test/process/listeners.test.ts', 'an instance that has closed is garbage, also while another one runs'],
          ['test/process/listeners.test.ts', '20 apps that open and close leave no listener and no warning behind'],
          'npm run soak'
        ]
      }
    ]
  },
  {
    part: 'Clients',
    faults: [
      {
        fault: 'silent connections and half-sent request heads, thousands of them',
        result: 'They do not delay the drain',
        shown: [['test/http/hostile-clients.test.ts', 'thousands of connections that are silent, idle or in the middle of a head do not delay a drain']]
      },
      {
        fault: 'a request that arrives one byte at a time (slow loris), or with half of its body',
        result: 'The request is cut at `timeouts.requests`, and is in the report',
        shown: [
          ['test/http/hostile-clients.test.ts', 'a client that sends one byte at a time (slow loris) is not waited for beyond timeouts.requests'],
          ['test/http/drains/drain.test.ts', 'a request with half a body is cut at timeouts.requests and named in the report']
        ]
      },
      {
        fault: 'slow readers',
        result: 'They get their last byte within the timeout. A client that never reads is cut',
        shown: [
          ['test/http/drains/drain.test.ts', 'a slow reader receives all of its 30 MB, even if idle connections are closed meanwhile'],
          ['test/http/drains/http2.test.ts', 'a session whose client never reads is destroyed in time, and counted in the report']
        ]
      },
      {
        fault: 'a WebSocket that does not answer the close frame',
        result: 'It is terminated at `timeouts.streams`',
        shown: [['test/http/drains/websockets.test.ts', 'a WebSocket whose client does not answer is terminated at timeouts.streams, and counted in the report']]
      },
      {
        fault: 'a rapid reset (CVE-2023-44487)',
        result: 'The counts return to 0',
        shown: [['test/http/detached-handlers.test.ts', 'streams that are reset right after their heads (a rapid reset) return the counts to 0']]
      },
      {
        fault: 'clients that leave at every moment, floods, half-sent requests, slow readers, upgrades, HTTP/2 resets',
        result: 'The memory beyond that of bare Fastify is flat, the counts are exact, and nothing is in flight at the end',
        shown: [
          ['test/http/hostile-clients.test.ts', 'a hundred thousand aborted requests leave no memory behind, and are counted'],
          'npm run soak -- --hostile 1000000'
        ]
      },
      {
        fault: 'a constant flow of new connections while the listener closes',
        result: 'Almost no connection is reset',
        shown: [['test/http/accept-queue.test.ts', 'a listener that closes resets almost no connection, even under a constant flow of new connections']]
      }
    ]
  }
]
