/**
 * Lines to a descriptor that somebody gave us (stderr, `--notify-fd`), without ever blocking on its reader.
 * A reader that is dead or does not read costs lines, never the relay.
 */
import { closeSync, constants, fstatSync, openSync, type Stats, writeSync } from 'node:fs';
import { Socket } from 'node:net';

export interface LineWriter {
  /** Writes the line (its newline included) at once. False: it was dropped, because the reader is slow or gone. */
  write(line: string): boolean;
  close(): void;
}

/** A socket takes parts of lines, so the rest has to wait somewhere; this much, and no more. */
const SOCKET_BACKLOG_BYTES = 64 * 1024;

/** Throws what `fstat` throws (`EBADF`: the descriptor is not open). */
export function openLineWriter(fd: number): LineWriter {
  const stats = fstatSync(fd);
  if (stats.isSocket()) return socketWriter(fd);
  return descriptorWriter(fd, stats);
}

/**
 * Pipes and terminals are opened again through /proc: O_NONBLOCK belongs to the open file, which the other holders of
 * the descriptor share, and it is not ours to change theirs. A pipe takes a line of up to PIPE_BUF (4096) bytes whole
 * or not at all (pipe(7)). Regular files never block in this sense.
 */
function descriptorWriter(fd: number, stats: Stats): LineWriter {
  let ownFd: number | undefined;
  if (stats.isFIFO() || stats.isCharacterDevice()) {
    try {
      ownFd = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      // No /proc, or a pipe whose readers are gone already (ENXIO): the descriptor itself has to do.
    }
  }
  return {
    write(line) {
      try {
        writeSync(ownFd ?? fd, line);
        return true;
      } catch {
        // EAGAIN: full. EPIPE: nobody reads. EBADF: closed under us. ENOSPC: disk full. The answer is the same.
        return false;
      }
    },
    close() {
      if (ownFd !== undefined) closeSync(ownFd);
      ownFd = undefined;
    },
  };
}

/** Node's parents give socket pairs. `Socket.write` sends at once what fits, and keeps the rest of a line for later. */
function socketWriter(fd: number): LineWriter {
  const socket = new Socket({ fd, readable: false, writable: true });
  let dead = false;
  socket.on('error', () => {
    dead = true;
  });
  socket.unref();
  return {
    write(line) {
      if (dead || socket.destroyed || socket.writableLength > SOCKET_BACKLOG_BYTES) return false;
      socket.write(line);
      return !dead;
    },
    close() {
      socket.destroy();
    },
  };
}
