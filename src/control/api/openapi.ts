/** The OpenAPI 3.1 document, built from the operations and their schemas. Pure. */
import type { TSchema } from 'typebox';
import { OPERATIONS, type Operation, type ResponseDescription } from './operations.js';
import { describeProblem, PROBLEM_MEDIA_TYPE, type ProblemCode } from './problems.js';
import { COMPONENTS, Problem } from './schemas.js';

const TAGS = {
  networks: 'Logical switches with a VLAN tag. They live in the OVN northbound database.',
  attachments: 'Containers on networks: a logical switch port, a relay and an OVS port each.',
  chassis: 'Hosts, in the OVN southbound database.',
  health: 'How it is, and what happens.',
  about: 'About this API.',
} as const;

const INTRODUCTION =
  'Networks for containers that run in their own VM. Served on a Unix socket; whoever may open it may do everything. ' +
  'Names in paths are percent-encoded. Errors are problem details (RFC 9457) whose `code` is stable.';

export function buildDocument(version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of OPERATIONS) {
    paths[operation.path] = {
      ...paths[operation.path],
      [operation.method.toLowerCase()]: describeOperation(operation),
    };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'arca-control', version, description: INTRODUCTION },
    servers: [{ url: '/' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      schemas: Object.fromEntries(
        Object.entries(COMPONENTS).map(([name, schema]) => [name, withReferences(schema, schema)]),
      ),
    },
  };
}

function describeOperation(operation: Operation): object {
  const { id, tag, summary, description, params, query, body } = operation;
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description !== undefined && { description }),
    parameters: [...describeParameters('path', params), ...describeParameters('query', query)],
    ...(body && { requestBody: { required: true, content: { 'application/json': { schema: withReferences(body) } } } }),
    responses: describeResponses(operation),
  };
}

function describeParameters(where: 'path' | 'query', schema: Operation['params']): object[] {
  const required: readonly string[] = schema?.required ?? [];
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => ({
    name,
    in: where,
    required: required.includes(name),
    schema: withReferences(property as TSchema),
  }));
}

/** Several codes have the same status; what no status names is under `default`. */
function describeResponses({ responses, problems }: Operation): object {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of problems) {
    const { status } = describeProblem(code);
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const problemEntries = [...byStatus].map(([status, codes]) => [
    status,
    { description: codes.join(', '), content: problemContent() },
  ]);
  const answers = Object.entries(responses).map(([status, response]) => [status, describeResponse(response)]);
  return {
    ...Object.fromEntries(problemEntries),
    ...Object.fromEntries(answers),
    default: { description: 'Any other problem.', content: problemContent() },
  };
}

function describeResponse({ description, schema, contentType = 'application/json' }: ResponseDescription): object {
  return { description, ...(schema && { content: { [contentType]: { schema: withReferences(schema) } } }) };
}

function problemContent(): object {
  return { [PROBLEM_MEDIA_TYPE]: { schema: withReferences(Problem) } };
}

/**
 * A copy in which each schema that is a component is a reference to it; `self` is the component that is written.
 * `discriminator` is for our validator: OpenAPI's maps values to names of schemas, and `oneOf` says all without it.
 */
function withReferences(value: unknown, self?: TSchema): unknown {
  if (Array.isArray(value)) return value.map((element) => withReferences(element, self));
  if (typeof value !== 'object' || value === null) return value;
  if (value !== self) {
    const name = Object.keys(COMPONENTS).find((candidate) => COMPONENTS[candidate] === value);
    if (name !== undefined) return { $ref: `#/components/schemas/${name}` };
  }
  const members = Object.entries(value).filter(([key]) => key !== 'discriminator');
  return Object.fromEntries(members.map(([key, element]) => [key, withReferences(element, self)]));
}
