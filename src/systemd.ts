/** Tells systemd what becomes of us (sd_notify(3)). */
import type { Logger } from './log.js';

export interface SystemdOptions {
  /** `NOTIFY_SOCKET`. */
  readonly socket: string;
  /** `sdNotify` of the addon. */
  readonly send: (socket: string, state: string) => void;
  readonly log: Logger;
}

/** Never throws and never blocks; that systemd can not be told is logged once, until it can again. */
export function createSystemdTeller({ socket, send, log }: SystemdOptions): (state: string) => void {
  let hasFailed = false;
  return (state) => {
    try {
      send(socket, state);
      hasFailed = false;
    } catch (error) {
      if (!hasFailed) log.warn({ err: error, notifySocket: socket }, 'systemd could not be told');
      hasFailed = true;
    }
  };
}
