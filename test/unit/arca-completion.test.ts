import { Argument, Command, Option } from 'commander';
import { describe, expect, it } from 'vitest';
import { complete, completionScript } from '../../src/cli/arca/completion.js';

function program(): Command {
  const root = new Command('arca').option('--control <unix:path>').option('--json');
  const network = root.command('network').description('Networks');
  network.command('create').argument('<name>').option('--vlan <tag>').option('--json', 'print JSON');
  network.command('rm').alias('remove').argument('<network>').option('--force');
  root.command('detach').argument('<container>').requiredOption('--network <network>');
  root.command('completion').addArgument(new Argument('<shell>').choices(['bash', 'zsh']));
  root.command('up').addOption(new Option('--datapath <type>').choices(['netdev', 'system']));
  root.command('__complete', { hidden: true });
  return root;
}

const NAMES = { network: ['net-a', 'net-b', 'other'], container: ['web'], chassis: ['host-1'] };

async function offered(...words: string[]): Promise<string[]> {
  return (await complete(program(), words, async (kind) => NAMES[kind])).map(({ value }) => value);
}

describe('complete', () => {
  it('offers verbs, none that are hidden', async () => {
    expect(await offered('')).toEqual(['network', 'detach', 'completion', 'up', 'help']);
    expect(await offered('ne')).toEqual(['network']);
    expect(await offered('network', '')).toEqual(['create', 'rm', 'help']);
    expect(await complete(program(), ['net'], async () => [])).toEqual([{ value: 'network', description: 'Networks' }]);
  });

  it('offers options', async () => {
    expect(await offered('--')).toEqual(['--control', '--json']);
    expect(await offered('network', 'create', '--')).toEqual(['--vlan', '--json']);
    expect(await offered('network', 'rm', 'net-a', '--f')).toEqual(['--force']);
  });

  it('offers names where they belong', async () => {
    expect(await offered('network', 'rm', 'net')).toEqual(['net-a', 'net-b']);
    expect(await offered('network', 'remove', '')).toEqual(NAMES.network);
    expect(await offered('network', 'rm', '--force', 'o')).toEqual(['other']);
    expect(await offered('detach', '')).toEqual(['web']);
    expect(await offered('detach', 'web', '--network', '')).toEqual(NAMES.network);
    expect(await offered('detach', 'web', '--network', 'net-a', '')).toEqual([]);
    // A name to be given is nobody's to know.
    expect(await offered('network', 'create', '')).toEqual([]);
    expect(await offered('network', 'create', '--vlan', '')).toEqual([]);
  });

  it('offers choices', async () => {
    expect(await offered('completion', '')).toEqual(['bash', 'zsh']);
    expect(await offered('up', '--datapath', 'n')).toEqual(['netdev']);
  });

  it('does not take the value of an option for a verb', async () => {
    expect(await offered('--control', 'network', 'de')).toEqual(['detach']);
    expect(await offered('--control', '')).toEqual([]);
  });
});

it('completionScript quotes the program for its shell', () => {
  expect(completionScript('bash', ["/a b/it's"])).toContain(`'/a b/it'\\''s' __complete`);
  expect(completionScript('fish', ["/it's"])).toContain(`'/it\\'s' __complete`);
});
