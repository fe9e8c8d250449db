/** One line that is written over, on a terminal; nothing anywhere else. On standard error: the table may be piped. */
export interface Progress {
  stage(name: string): void;
  task(name: string, doneShare: number): void;
  end(): void;
}

export function createProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY) return { stage() {}, task() {}, end() {} };
  const startMs = performance.now();
  let stageName = '';
  const write = (text: string): void => {
    stream.write(`\r\x1b[2K${text.slice(0, (stream.columns || 80) - 1)}`);
  };
  return {
    stage(name) {
      stageName = name;
      write(name);
    },
    task(name, doneShare) {
      const elapsed = (performance.now() - startMs) / 1000;
      const left = doneShare > 0.02 ? `, about ${Math.round((elapsed / doneShare) * (1 - doneShare))} s left` : '';
      write(`[${String(Math.round(doneShare * 100)).padStart(3)} %] ${stageName}: ${name}${left}`);
    },
    end: () => write(''),
  };
}
