/** Shell completion: what may follow is found from the commands themselves; the scripts only ask and show. */
import { Argument, type Command, type Option } from 'commander';
import { type ControlClient, createClient } from '../../control/client.js';
import { readTarget } from './session.js';

export type Shell = 'bash' | 'zsh' | 'fish';

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

/** Names that only arca-control knows. */
export type NameKind = 'network' | 'container' | 'chassis';

const SHELLS: readonly Shell[] = ['bash', 'zsh', 'fish'];
/** A key press is not kept waiting for longer. */
const LOOK_UP_TIMEOUT_SECONDS = '1';

const EXAMPLES = `
Examples:
  source <(arca completion bash)                          in this shell
  arca completion bash > /etc/bash_completion.d/arca      for everybody
  arca completion zsh > "\${fpath[1]}/_arca"
  arca completion fish > ~/.config/fish/completions/arca.fish`;

export function addCompletionCommands(program: Command): void {
  program
    .command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', EXAMPLES)
    .action((shell: Shell) => {
      process.stdout.write(completionScript(shell, [process.execPath, process.argv[1] ?? 'arca']));
    });
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .helpOption(false)
    .action(async (words: readonly string[]) => {
      const candidates = await complete(program, words, (kind) => lookUpNames(kind, words));
      const lines = candidates
        .filter(({ value }) => isPlain(value))
        .map(({ value, description }) => `${value}\t${description}\n`);
      process.stdout.write(lines.join(''));
    });
}

/** What may stand in the place of the last of `words`, which are those behind the program's name. */
export async function complete(
  program: Command,
  words: readonly string[],
  lookUp: (kind: NameKind) => Promise<readonly string[]>,
): Promise<readonly Candidate[]> {
  const current = words.at(-1) ?? '';
  const { command, wanting, argumentIndex } = walk(program, words.slice(0, -1));
  const candidates = await candidatesFor();
  return candidates.filter(({ value }) => value.startsWith(current));

  async function candidatesFor(): Promise<readonly Candidate[]> {
    if (wanting) return wanting.argChoices?.map(plain) ?? namesFor(wanting.attributeName());
    if (current.startsWith('-')) {
      return command.options
        .filter(({ hidden }) => !hidden)
        .map(({ long, short, description }) => ({ value: long ?? short ?? '', description }));
    }
    if (command.commands.length > 0) {
      const children = command.createHelp().visibleCommands(command);
      return children.map((child) => ({ value: child.name(), description: child.description() }));
    }
    const known = command.registeredArguments;
    const argument = known[argumentIndex] ?? (known.at(-1)?.variadic ? known.at(-1) : undefined);
    return argument?.argChoices?.map(plain) ?? namesFor(argument?.name());
  }

  async function namesFor(what: string | undefined): Promise<readonly Candidate[]> {
    if (what !== 'network' && what !== 'container' && what !== 'chassis') return [];
    return (await lookUp(what)).map(plain);
  }
}

interface Place {
  readonly command: Command;
  /** The option whose value the next word is. */
  readonly wanting: Option | undefined;
  readonly argumentIndex: number;
}

function walk(program: Command, words: readonly string[]): Place {
  let command = program;
  let wanting: Option | undefined;
  let argumentIndex = 0;
  for (const word of words) {
    if (wanting) {
      wanting = undefined;
    } else if (word.startsWith('-')) {
      const option = command.options.find(({ long, short }) => word === long || word === short);
      wanting = option?.required || option?.optional ? option : undefined;
    } else {
      const child = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
      if (child) command = child;
      else argumentIndex++;
    }
  }
  return { command, wanting, argumentIndex };
}

const plain = (value: string): Candidate => ({ value, description: '' });

/** A name with control characters can't be typed; it would end the line that tells it. */
function isPlain(text: string): boolean {
  return !/\p{Cc}/u.test(text);
}

/** A completion that can't be had is none: the shell has no place for an error. */
async function lookUpNames(kind: NameKind, words: readonly string[]): Promise<readonly string[]> {
  try {
    const control = words.slice(0, -1).findLast((_word, index) => words[index - 1] === '--control');
    const client = createClient(
      readTarget({ timeout: LOOK_UP_TIMEOUT_SECONDS, ...(control !== undefined && { control }) }, process.env),
    );
    return [...new Set(await namesOf(client, kind))].sort();
  } catch {
    return [];
  }
}

async function namesOf(client: ControlClient, kind: NameKind): Promise<readonly string[]> {
  switch (kind) {
    case 'network':
      return (await client.listNetworks()).map(({ name }) => name);
    case 'container':
      return (await client.listAttachments()).map(({ container }) => container);
    case 'chassis':
      return (await client.listChassis()).map(({ name }) => name);
  }
}

/** `program` is what the script runs, whatever `arca` is in that shell: an alias, a link, a file in PATH. */
export function completionScript(shell: Shell, program: readonly string[]): string {
  const command = program.map((word) => `'${word.replaceAll("'", shell === 'fish' ? "\\'" : "'\\''")}'`).join(' ');
  switch (shell) {
    case 'bash':
      return bashScript(command);
    case 'zsh':
      return zshScript(command);
    case 'fish':
      return `complete -c arca -f -a "(${command} __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)"\n`;
  }
}

/** Bash splits words at ":" and "=" (COMP_WORDBREAKS), and leaves quotes in them. */
function bashScript(command: string): string {
  return `# bash completion of arca; made by: arca completion bash
_arca() {
  local -a words=()
  local part glue='' quote='' value description i
  for ((i = 1; i <= COMP_CWORD; i++)); do
    part=\${COMP_WORDS[i]}
    if ((\${#words[@]} > 0)) && [[ -n $glue || $part == [:=]* ]]; then
      words[\${#words[@]} - 1]+=$part
    else
      words+=("$part")
    fi
    if [[ $part == *[:=] ]]; then glue=yes; else glue=''; fi
  done
  local current=\${words[\${#words[@]} - 1]}
  local split=\${current%"\${COMP_WORDS[COMP_CWORD]}"}
  if [[ \${COMP_WORDS[COMP_CWORD]} == [:=] ]]; then split=$current; fi
  if [[ $current == [\\"\\']* ]]; then
    quote=\${current:0:1}
    words[\${#words[@]} - 1]=\${current:1}
  fi
  COMPREPLY=()
  while IFS=$'\\t' read -r value description; do
    if [[ -z $quote ]]; then printf -v value %q "$value"; fi
    COMPREPLY+=("\${value#"$split"}")
  done < <(${command} __complete -- "\${words[@]}" 2>/dev/null)
}
complete -o default -F _arca arca
`;
}

function zshScript(command: string): string {
  return `#compdef arca
# zsh completion of arca; made by: arca completion zsh
_arca() {
  local -a candidates
  local value description
  while IFS=$'\\t' read -r value description; do
    candidates+=("\${value//:/\\\\:}:$description")
  done < <(${command} __complete -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)
  _describe arca candidates || _files
}
if [[ $funcstack[1] == _arca ]]; then _arca "$@"; else compdef _arca arca; fi
`;
}
