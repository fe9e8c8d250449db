/** GET /v1/events: what happens, as server-sent events (WHATWG HTML, 9.2), to readers that need not keep up. */
import type { ServerResponse } from 'node:http';
import type { Logger } from '../../log.js';
import type { ControlEvent, ControlService } from '../model.js';

export interface EventLimits {
  readonly maxStreams: number;
  /** A comment comes this often, so that either end finds out that the other is gone. */
  readonly heartbeatMs: number;
  /** A reader for whom more than this waits is dropped: it can connect again, and list. */
  readonly backlogBytes: number;
}

export const EVENT_LIMITS: EventLimits = { maxStreams: 64, heartbeatMs: 15_000, backlogBytes: 256 * 1024 };

export interface EventStreams {
  /** False: there are as many as there may be, and the response is untouched. Else it is ours until its end. */
  open(response: ServerResponse): boolean;
  /** Ends each stream in the way of HTTP. */
  stop(): void;
}

export function createEventStreams(service: ControlService, log: Logger, limits: EventLimits): EventStreams {
  const { maxStreams, heartbeatMs, backlogBytes } = limits;
  const streams = new Set<ServerResponse>();
  let heartbeat: NodeJS.Timeout | undefined;

  function broadcast(text: string): void {
    for (const stream of streams) {
      // What waits for this reader so far; one event more is bounded, too.
      if (stream.writableLength > backlogBytes) drop(stream);
      else stream.write(text);
    }
  }

  function drop(stream: ServerResponse): void {
    log.warn({ backlogBytes: stream.writableLength }, 'a reader of events is too slow; dropped');
    close(stream);
    // Without its last chunk: the reader sees that something is missing.
    stream.destroy();
  }

  function close(stream: ServerResponse): void {
    streams.delete(stream);
    if (streams.size > 0) return;
    clearInterval(heartbeat);
    heartbeat = undefined;
  }

  const unsubscribe = service.subscribe((event) => {
    if (streams.size > 0) broadcast(eventText(event));
  });

  return {
    open(response) {
      if (streams.size >= maxStreams) return false;
      streams.add(response);
      response.on('close', () => close(response));
      response.on('error', () => close(response));
      // The connection ends with the stream: nobody waits for it when the server stops.
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        connection: 'close',
      });
      // At once: from here on nothing is missed, and the reader may list what there is.
      response.write(': listening\n\n');
      heartbeat ??= setInterval(() => broadcast(': alive\n\n'), heartbeatMs);
      return true;
    },
    stop() {
      unsubscribe();
      for (const stream of [...streams]) {
        close(stream);
        stream.end();
      }
    },
  };
}

/** JSON has no raw line ends, so the data is one line. */
function eventText(event: ControlEvent): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}
