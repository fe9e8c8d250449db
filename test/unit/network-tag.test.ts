import { describe, expect, it } from 'vitest';
import { ArcaError, type ErrorCode } from '../../src/errors.js';
import { northboundText, parseTag, readTag, tagArguments } from '../../src/ovn/network-tag.js';

/** As ovn-nbctl 23.03 prints it. */
const answer = (...data: unknown[]): string => `${JSON.stringify({ data, headings: ['name', 'external_ids'] })}\n`;

function failureOf(read: () => unknown): ArcaError {
  try {
    read();
  } catch (error) {
    if (error instanceof ArcaError) return error;
    throw error;
  }
  throw new Error('it did not throw');
}

describe('tagArguments', () => {
  it('asks for one switch, by its name', () => {
    expect(tagArguments({ network: 'net-a', nb: 'unix:/run/nb.sock', timeoutMs: 1500 })).toEqual([
      '--db=unix:/run/nb.sock',
      '--timeout=3',
      '--format=json',
      '--columns=name,external_ids',
      'find',
      'Logical_Switch',
      'name="net-a"',
    ]);
  });

  it('hands on the keys for TLS', () => {
    const tls = { privateKey: '/k', certificate: '/c', caCertificate: '/ca' };
    expect(tagArguments({ network: 'net-a', nb: 'ssl:h:6641', tls, timeoutMs: 1000 })).toEqual(
      expect.arrayContaining(['--db=ssl:h:6641', '--private-key=/k', '--certificate=/c', '--ca-cert=/ca']),
    );
  });

  it('leaves the database to ovn-nbctl', () => {
    expect(tagArguments({ network: 'net-a', timeoutMs: 1000 }).some((argument) => argument.startsWith('--db'))).toBe(
      false,
    );
  });

  it.each([
    ['a b', 'name="a b"'],
    ['a"b', 'name="a\\"b"'],
    ['a,b', 'name="a,b"'],
    ['[x]', 'name="[x]"'],
    ['{}', 'name="{}"'],
    ['a\\b', 'name="a\\\\b"'],
    ['true', 'name="true"'],
    ['ü', 'name="ü"'],
  ])('quotes %s, so that it means itself', (name, argument) => {
    expect(tagArguments({ network: name, timeoutMs: 1000 }).at(-1)).toBe(argument);
  });
});

describe('readTag', () => {
  it('reads what ovn-nbctl 23.03 printed', () => {
    const printed =
      '{"data":[["net-a",["map",[["other","x"],["vlan_tag","100"]]]]],"headings":["name","external_ids"]}\n';
    expect(readTag('net-a', printed)).toBe(100);
  });

  it.each<[string, string, ErrorCode]>([
    ['no switch', answer(), 'network-unknown'],
    ['two switches', answer(['net-a', ['map', []]], ['net-a', ['map', [['vlan_tag', '7']]]]), 'network-ambiguous'],
    ['no tag', answer(['net-a', ['map', []]]), 'tag-missing'],
    ['a word', answer(['net-a', ['map', [['vlan_tag', 'red']]]]), 'tag-invalid'],
    ['0', answer(['net-a', ['map', [['vlan_tag', '0']]]]), 'tag-invalid'],
    ['4095', answer(['net-a', ['map', [['vlan_tag', '4095']]]]), 'tag-invalid'],
    ['no JSON', 'oops', 'command-failed'],
    ['other JSON', '{}', 'command-failed'],
  ])('%s', (_what, printed, code) => {
    const error = failureOf(() => readTag('net-a', printed, 'unix:/run/nb.sock'));
    expect(error.code).toBe(code);
    if (code !== 'command-failed') {
      expect(error.message).toContain('"net-a"');
      expect(error.message).toContain('ovn-nbctl --db=unix:/run/nb.sock ');
    }
  });
});

describe('parseTag', () => {
  it.each(['1', '100', '4094'])('takes %s', (text) => expect(parseTag(text)).toBe(Number(text)));
  it.each(['', '0', '4095', '5000', '0100', '+1', '-1', '1.5', '1e2', ' 1', '1 ', '0x10', '١'])(
    'refuses "%s"',
    (text) => expect(parseTag(text)).toBeUndefined(),
  );
});

describe('northboundText', () => {
  it('follows ovn-nbctl: option, OVN_NB_DB, OVN_RUNDIR, default', () => {
    expect(northboundText('tcp:h:1', { OVN_NB_DB: 'x' })).toBe('tcp:h:1');
    expect(northboundText(undefined, { OVN_NB_DB: 'ssl:h:2', OVN_RUNDIR: '/r' })).toBe('ssl:h:2');
    expect(northboundText(undefined, { OVN_RUNDIR: '/r' })).toBe('unix:/r/ovnnb_db.sock');
    expect(northboundText(undefined, {})).toBe('unix:/var/run/ovn/ovnnb_db.sock');
  });
});
