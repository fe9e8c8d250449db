import { describe, expect, it } from 'vitest';
import { ArcaError, ERROR_KINDS, errnoOf, exitCodeLines, toArcaError } from '../../src/errors.js';

describe('errors', () => {
  it('gives every code an exit code of its own, clear of signals and sysexits(3)', () => {
    const exitCodes = Object.values(ERROR_KINDS).map((kind) => kind.exitCode as number);
    expect(new Set(exitCodes).size).toBe(exitCodes.length);
    for (const exitCode of exitCodes) {
      expect(exitCode).toSatisfy((code: number) => (code > 0 && code < 64) || (code >= 90 && code <= 125));
    }
  });

  it('keeps the numbers that scripts may know', () => {
    expect(new ArcaError('usage', '').exitCode).toBe(2);
    expect(new ArcaError('network-unknown', '').exitCode).toBe(10);
    expect(new ArcaError('bridge-black-hole', '').exitCode).toBe(23);
    expect(new ArcaError('forced-exit', '').exitCode).toBe(51);
    expect(new ArcaError('control-unreachable', '').exitCode).toBe(90);
  });

  it('lists them in order', () => {
    const lines = exitCodeLines((code) => code !== 'sandbox-failed');
    expect(lines[0]).toBe('   0  success');
    expect(lines).toHaveLength(Object.keys(ERROR_KINDS).length);
    expect(lines).toEqual([...lines].sort());
  });

  it('wraps what is none, once', () => {
    const cause = new Error('why');
    const wrapped = toArcaError(cause);
    expect(wrapped).toMatchObject({ code: 'unexpected', message: 'why', cause });
    expect(toArcaError(wrapped)).toBe(wrapped);
    expect(toArcaError('text').message).toBe('text');
  });

  it('reads an errno where there is one', () => {
    expect(errnoOf(Object.assign(new Error(), { code: 'ENOENT' }))).toBe('ENOENT');
    expect(errnoOf(Object.assign(new Error(), { code: 7 }))).toBeUndefined();
    expect(errnoOf({ code: 'ENOENT' })).toBeUndefined();
  });
});
