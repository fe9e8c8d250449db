/** `arca chassis`: hosts, as the southbound database knows them. */
import type { Command } from 'commander';
import type { Chassis } from '../../control/model.js';
import { ArcaError } from '../../errors.js';
import { addVerb, openSession } from './session.js';
import { type Column, renderFields, renderTable, visible } from './text.js';

const COLUMNS: readonly Column<Chassis>[] = [
  { title: 'CHASSIS', text: ({ name }) => name },
  { title: 'HOSTNAME', text: ({ hostname }) => hostname || '-' },
  { title: 'ENCAPSULATION', text: encapsText },
  { title: 'OURS', text: ({ isOurs }) => (isOurs ? 'yes' : '-') },
];

export function addChassisCommands(program: Command): void {
  const chassis = program.command('chassis').description('Hosts, in the OVN southbound database');
  addVerb(chassis, 'register', 'register a chassis; the same again changes nothing')
    .argument('<name>')
    .requiredOption('--encap-ip <address>', 'address that Geneve uses')
    .action(register);
  addVerb(chassis, 'ls', 'list chassis').action(listChassis);
  addVerb(chassis, 'show', 'show one chassis').argument('<chassis>').action(show);
  addVerb(chassis, 'rm', 'remove a chassis').alias('remove').argument('<chassis>').action(remove);
}

async function register(name: string, { encapIp }: { encapIp: string }, command: Command): Promise<void> {
  const session = openSession(command);
  const registering = session.client.registerChassis({ name, encapIp });
  const { created, value } = await session.waiting(`registering ${visible(name)}`, registering);
  if (session.isJson) session.printJson(value);
  else
    session.print([
      visible(`chassis ${value.name} ${created ? 'registered' : 'is there already'}: ${encapsText(value)}`),
    ]);
}

async function listChassis(_options: unknown, command: Command): Promise<void> {
  const session = openSession(command);
  const all = await session.client.listChassis();
  if (session.isJson) session.printJson(all);
  else if (all.length > 0) session.print(renderTable(COLUMNS, all, session.style));
  else session.print(['there is no chassis; `arca chassis register NAME --encap-ip IP` makes one']);
}

async function show(name: string, _options: unknown, command: Command): Promise<void> {
  const session = openSession(command);
  const chassis = (await session.client.listChassis()).find((candidate) => candidate.name === name);
  if (chassis === undefined) throw new ArcaError('chassis-unknown', `there is no chassis ${JSON.stringify(name)}`);
  if (session.isJson) session.printJson(chassis);
  else
    session.print(
      renderFields(
        COLUMNS.map(({ title, text }) => [title.toLowerCase(), text(chassis)]),
        session.style,
      ),
    );
}

async function remove(name: string, _options: unknown, command: Command): Promise<void> {
  const session = openSession(command);
  await session.waiting(`removing ${visible(name)}`, session.client.removeChassis(name));
  if (session.isJson) session.printJson({ removed: name });
  else session.print([`chassis ${visible(name)} removed`]);
}

function encapsText({ encaps }: Chassis): string {
  return encaps.map(({ type, ip }) => `${type} ${ip}`).join(', ') || '-';
}
