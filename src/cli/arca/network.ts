/** `arca network`: logical switches with a VLAN tag. */
import type { Command } from 'commander';
import type { Network } from '../../control/model.js';
import { list } from '../daemon/life.js';
import { addVerb, numberOption, openSession } from './session.js';
import { type Column, renderFields, renderTable, visible } from './text.js';
import { type View, WATCH_OPTION, watch } from './watch.js';

const FIRST_TAG = 1;
const LAST_TAG = 4094;
const LEAST_MTU = 68;
const MOST_MTU = 65521;

interface CreateOptions {
  readonly vlan?: string;
  readonly subnet?: string;
  readonly gateway?: string;
  readonly dns?: readonly string[];
  readonly mtu?: string;
}

const EXAMPLES = `
Examples:
  arca network create net-a --subnet 10.9.0.0/24 --gateway 10.9.0.1
  arca network ls --watch
  arca network adopt legacy             a switch that somebody made with ovn-nbctl
  arca network rm net-a --force         its containers are detached first`;

const COLUMNS: readonly Column<Network>[] = [
  { title: 'NETWORK', text: ({ name }) => name },
  { title: 'VLAN', text: ({ vlan }) => String(vlan ?? '-'), align: 'right' },
  { title: 'SUBNET', text: ({ subnet }) => subnet ?? '-' },
  { title: 'GATEWAY', text: ({ gateway }) => gateway ?? '-' },
  { title: 'MTU', text: ({ mtu }) => String(mtu), align: 'right' },
  { title: 'CONTAINERS', text: ({ attachments }) => String(attachments), align: 'right' },
  { title: 'OWNER', text: ({ owner }) => owner, colour: ({ owner }) => (owner === 'foreign' ? 'yellow' : undefined) },
];

const LIST_VIEW: View<readonly Network[]> = {
  read: ({ client }) => client.listNetworks(),
  render: (networks, { style }) =>
    networks.length === 0
      ? ['there is no network; `arca network create NAME` makes one']
      : renderTable(COLUMNS, networks, style),
};

export function addNetworkCommands(program: Command): void {
  const network = program
    .command('network')
    .description('Networks: logical switches of OVN with a VLAN tag each')
    .addHelpText('after', EXAMPLES);
  addVerb(network, 'create', 'make a network; the same again changes nothing')
    .argument('<name>', 'letters, digits, "_", "." and "-"')
    .option('--subnet <cidr>', 'IPv4, for example 10.9.0.0/24; without it no addresses are allocated')
    .option('--gateway <address>', 'default route of its containers')
    .option('--dns <address>', 'DNS server of its containers; repeatable', list)
    .option('--mtu <bytes>', 'MTU of its containers (default: 1500)')
    .option('--vlan <tag>', 'VLAN tag (default: the lowest that is free from 100)')
    .action(create);
  addVerb(network, 'ls', 'list networks, also those of others')
    .option(...WATCH_OPTION)
    .action(listNetworks);
  addVerb(network, 'inspect', 'show one network').argument('<network>').action(inspect);
  addVerb(network, 'rm', 'remove a network; its tag is free again')
    .argument('<network>')
    .option('--force', 'detach its containers first')
    .action(remove);
  addVerb(network, 'adopt', 'take over a switch that somebody else made')
    .argument('<network>')
    .option('--vlan <tag>', 'VLAN tag, if it has none (default: the lowest that is free)')
    .action(adopt);
  addVerb(network, 'policy', 'refused: there is no policy between containers in VLAN mode')
    .argument('<network>')
    .action(policy);
}

async function create(name: string, options: CreateOptions, command: Command): Promise<void> {
  const session = openSession(command);
  const { subnet, gateway, dns } = options;
  const vlan = numberOption('--vlan', options.vlan, FIRST_TAG, LAST_TAG);
  const mtu = numberOption('--mtu', options.mtu, LEAST_MTU, MOST_MTU);
  const creating = session.client.createNetwork({ name, vlan, subnet, gateway, dns, mtu });
  const { created, value } = await session.waiting(`making ${visible(name)}`, creating);
  if (session.isJson) session.printJson(value);
  else session.print([`network ${visible(value.name)} ${created ? 'made' : 'is there already'}: VLAN ${value.vlan}`]);
}

async function listNetworks({ watch: isWatching }: { watch?: true }, command: Command): Promise<void> {
  if (isWatching) return watch(command, LIST_VIEW);
  const session = openSession(command);
  const networks = await LIST_VIEW.read(session);
  if (session.isJson) session.printJson(networks);
  else session.print(LIST_VIEW.render(networks, session));
}

async function inspect(name: string, _options: unknown, command: Command): Promise<void> {
  const session = openSession(command);
  const network = await session.client.getNetwork(name);
  if (session.isJson) session.printJson(network);
  else session.print(renderFields(fieldsOf(network), session.style));
}

function fieldsOf(network: Network): [string, string][] {
  const { name, id, vlan, subnet, gateway, dns, mtu, owner, attachments } = network;
  return [
    ['network', name],
    ['id', id],
    ['VLAN', vlan === null ? 'none; `arca network adopt` gives it one' : String(vlan)],
    ['subnet', subnet ?? '-'],
    ['gateway', gateway ?? '-'],
    ['DNS', dns.join(', ') || '-'],
    ['MTU', String(mtu)],
    ['containers', String(attachments)],
    ['owner', owner === 'arca' ? 'arca' : 'somebody else; `arca network adopt` takes it over'],
  ];
}

async function remove(name: string, { force = false }: { force?: boolean }, command: Command): Promise<void> {
  const session = openSession(command);
  await session.waiting(`removing ${visible(name)}`, session.client.removeNetwork(name, { force }));
  if (session.isJson) session.printJson({ removed: name });
  else session.print([`network ${visible(name)} removed`]);
}

async function adopt(name: string, options: { vlan?: string }, command: Command): Promise<void> {
  const session = openSession(command);
  const vlan = numberOption('--vlan', options.vlan, FIRST_TAG, LAST_TAG);
  const network = await session.client.adoptNetwork(name, { vlan });
  if (session.isJson) session.printJson(network);
  else session.print([`network ${visible(network.name)} adopted: VLAN ${network.vlan}`]);
}

async function policy(name: string, _options: unknown, command: Command): Promise<void> {
  await openSession(command).client.setNetworkPolicy(name);
}
