/** `arca attach`, `detach`, `ps` and `show`: containers on networks. */
import type { Command } from 'commander';
import { readUnixTarget, usage } from '../../arguments.js';
import type { Attachment, AttachmentState } from '../../control/model.js';
import { type StreamEndpoint, streamEndpointText } from '../../stream-endpoint.js';
import { list } from '../daemon/life.js';
import { addVerb, numberOption, openSession } from './session.js';
import { type Colour, type Column, renderFields, renderTable, visible } from './text.js';
import { type View, WATCH_OPTION, watch } from './watch.js';

const MOST_VSOCK_PORT = 0xfffffffe;
const MOST_CID = 0xfffffffe;

interface AttachOptions {
  readonly network: string;
  readonly mac?: string;
  readonly address?: string;
  readonly vsockPort?: string;
  readonly listen?: string;
  readonly peerCid?: readonly string[];
}

interface ListOptions {
  readonly network?: string;
  readonly container?: string;
  readonly watch?: true;
}

const ATTACH_EXAMPLES = `
Examples:
  arca attach web --network net-a                         OVN draws MAC and address, a free vsock port is taken
  arca attach web --network net-a --address 10.9.0.7 --peer-cid 3
  arca attach web --network net-a --listen unix:/tmp/web.sock    where there is no vsock

It answers when the switch has the port. If a step fails all are undone, and the message says which.`;

const STATE_COLOURS: Readonly<Record<AttachmentState, Colour>> = {
  ready: 'green',
  starting: 'yellow',
  degraded: 'yellow',
  restarting: 'yellow',
  failed: 'red',
};

const COLUMNS: readonly Column<Attachment>[] = [
  { title: 'CONTAINER', text: ({ container }) => container },
  { title: 'NETWORK', text: ({ network }) => network },
  { title: 'STATE', text: ({ state }) => state, colour: ({ state }) => STATE_COLOURS[state] },
  { title: 'PEER', text: ({ connected }) => (connected ? 'up' : '-') },
  { title: 'ADDRESS', text: ({ addresses }) => addresses.join(',') || '-' },
  { title: 'MAC', text: ({ mac }) => mac || '-' },
  { title: 'VLAN', text: ({ vlan }) => String(vlan), align: 'right' },
  { title: 'ENDPOINT', text: ({ endpoint }) => streamEndpointText(endpoint) },
  { title: 'RESTARTS', text: ({ restarts }) => String(restarts), align: 'right' },
];
const TROUBLE_COLUMN: Column<Attachment> = { title: 'TROUBLE', text: ({ trouble }) => trouble ?? '' };

function listView(filter: ListOptions): View<readonly Attachment[]> {
  return {
    read: ({ client }) => client.listAttachments({ network: filter.network, container: filter.container }),
    render(attachments, { style }) {
      if (attachments.length === 0) return ['no container is attached; `arca attach NAME --network NET` does it'];
      const hasTrouble = attachments.some(({ trouble }) => trouble !== null);
      return renderTable(hasTrouble ? [...COLUMNS, TROUBLE_COLUMN] : COLUMNS, attachments, style);
    },
  };
}

export function addAttachmentCommands(program: Command): void {
  addVerb(program, 'attach', 'put a container on a network; the same again changes nothing')
    .argument('<name>', 'name of the container')
    .requiredOption('--network <network>', 'the network')
    .option('--mac <mac>', 'MAC of its interface (default: OVN draws one)')
    .option('--address <address>', "its address, in the network's subnet (default: the next that is free)")
    .option('--vsock-port <n>', "where the container's end connects (default: a free one)")
    .option('--listen <unix:path>', 'a Unix socket instead of vsock')
    .option('--peer-cid <cid>', 'only this vsock CID may connect; repeatable (default: any)', list)
    .addHelpText('after', ATTACH_EXAMPLES)
    .action(attach);
  addVerb(program, 'detach', 'take a container off a network')
    .argument('<container>')
    .requiredOption('--network <network>', 'the network')
    .action(detach);
  addVerb(program, 'ps', 'list the containers on networks')
    .option('--network <network>', 'only of this network')
    .option('--container <container>', 'only this container')
    .option(...WATCH_OPTION)
    .action(ps);
  addVerb(program, 'show', 'show one container on one network, and what starts its end')
    .argument('<container>')
    .requiredOption('--network <network>', 'the network')
    .action(show);
}

async function attach(container: string, options: AttachOptions, command: Command): Promise<void> {
  const session = openSession(command);
  const { network, mac, address } = options;
  const peerCids = options.peerCid?.map((cid) => numberOption('--peer-cid', cid, 0, MOST_CID) ?? 0);
  const spec = { container, network, endpoint: readEndpoint(options), mac, address, peerCids };
  const name = visible(`${container} to ${network}`);
  const { created, value } = await session.waiting(`attaching ${name}`, session.client.attach(spec));
  if (session.isJson) {
    session.printJson(value);
    return;
  }
  session.print([
    visible(`${value.container} ${created ? 'attached to' : 'is attached already to'} ${value.network}`),
    ...renderFields(fieldsOf(value).slice(2), session.style).map((line) => `  ${line}`),
  ]);
}

function readEndpoint({ vsockPort, listen }: AttachOptions): StreamEndpoint | undefined {
  if (vsockPort !== undefined && listen !== undefined) throw usage('give --vsock-port or --listen, not both');
  if (listen !== undefined) return { transport: 'unix', path: readUnixTarget('--listen', listen) };
  const port = numberOption('--vsock-port', vsockPort, 1, MOST_VSOCK_PORT);
  return port === undefined ? undefined : { transport: 'vsock', port };
}

async function detach(container: string, { network }: { network: string }, command: Command): Promise<void> {
  const session = openSession(command);
  const name = visible(`${container} from ${network}`);
  await session.waiting(`detaching ${name}`, session.client.detach(container, network));
  if (session.isJson) session.printJson({ detached: { container, network } });
  else session.print([visible(`${container} detached from ${network}`)]);
}

async function ps(options: ListOptions, command: Command): Promise<void> {
  const view = listView(options);
  if (options.watch) return watch(command, view);
  const session = openSession(command);
  const attachments = await view.read(session);
  if (session.isJson) session.printJson(attachments);
  else session.print(view.render(attachments, session));
}

async function show(container: string, { network }: { network: string }, command: Command): Promise<void> {
  const session = openSession(command);
  const attachment = await session.client.getAttachment(container, network);
  if (session.isJson) session.printJson(attachment);
  else session.print(renderFields(fieldsOf(attachment), session.style));
}

function fieldsOf(attachment: Attachment): [string, string][] {
  const { state, trouble, connected, relayPid, restarts, restartAt } = attachment;
  return [
    ['container', attachment.container],
    ['network', attachment.network],
    ['state', trouble === null ? state : `${state}: ${trouble}`],
    ...(restartAt === null ? [] : [['restart at', restartAt] as [string, string]]),
    ['peer', connected ? 'connected' : 'not connected'],
    ['address', attachment.addresses.join(', ') || '-'],
    ['MAC', attachment.mac || '-'],
    ['gateway', attachment.gateway ?? '-'],
    ['DNS', attachment.dns.join(', ') || '-'],
    ['MTU', String(attachment.mtu)],
    ['VLAN', String(attachment.vlan)],
    ['TAP', attachment.tap],
    ['endpoint', streamEndpointText(attachment.endpoint)],
    ['logical port', attachment.logicalPort],
    ['relay', relayPid === null ? 'none' : `process ${relayPid}, ${restarts} restarts`],
    ['its end', attachment.connect],
  ];
}
