/** The calls of the API, one entry each: what server.ts routes, openapi.ts describes and the service does. */
import { type Static, type TObject, type TSchema, Type } from 'typebox';
import { ArcaError } from '../../errors.js';
import type { ControlService } from '../model.js';
import { describeProblem, PROBLEM_CODES, type ProblemCode } from './problems.js';
import * as schemas from './schemas.js';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export interface Answer {
  readonly status: number;
  /** An object or array goes out as JSON; text as `contentType` says. */
  readonly body?: unknown;
  readonly contentType?: string;
}

export interface ResponseDescription {
  readonly description: string;
  /** No body without it. */
  readonly schema?: TSchema;
  readonly contentType?: string;
}

export interface OperationContext {
  readonly service: ControlService;
  readonly version: string;
  /** The OpenAPI document. */
  readonly document: () => object;
}

/** What the schemas of an operation have checked. */
export interface OperationInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

export interface Operation {
  readonly id: string;
  readonly method: Method;
  /** As OpenAPI writes it: `/v1/networks/{name}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly params?: TObject;
  readonly query?: TObject;
  readonly body?: TSchema;
  readonly responses: Readonly<Record<number, ResponseDescription>>;
  /** Those to expect; any other can happen too. */
  readonly problems: readonly ProblemCode[];
  /** Nothing: the answer is a stream, which server.ts knows. */
  readonly handle?: (context: OperationContext, input: OperationInput) => Promise<Answer>;
}

/** The inputs have the types of their schemas inside `handle`; outside of it an operation is an operation. */
function operation<Params extends TObject, Query extends TObject, Body extends TSchema>(
  definition: Omit<Operation, 'params' | 'query' | 'body' | 'handle'> & {
    readonly params?: Params;
    readonly query?: Query;
    readonly body?: Body;
    readonly handle?: (
      context: OperationContext,
      input: { readonly params: Static<Params>; readonly query: Static<Query>; readonly body: Static<Body> },
    ) => Promise<Answer>;
  },
): Operation {
  return definition as Operation;
}

const made = <T>({ created, value }: { readonly created: boolean; readonly value: T }): Answer => ({
  status: created ? 201 : 200,
  body: value,
});
const ok = (body: unknown): Answer => ({ status: 200, body });
const GONE: Answer = { status: 204 };

const madeResponses = (what: string, schema: TSchema): Operation['responses'] => ({
  201: { description: `${what} was made.`, schema },
  200: { description: `${what} was there already, with the same properties.`, schema },
});

const closed = { additionalProperties: false } as const;
const BY_NETWORK = Type.Object({ name: schemas.NetworkName }, closed);
const BY_CHASSIS = Type.Object({ name: schemas.ChassisName }, closed);
const BY_PAIR = Type.Object({ container: schemas.ContainerName, network: schemas.NetworkName }, closed);

const NORTHBOUND: readonly ProblemCode[] = ['northbound-unreachable', 'northbound-timeout'];
const SOUTHBOUND: readonly ProblemCode[] = ['southbound-unreachable', 'southbound-timeout'];
const OVS: readonly ProblemCode[] = ['ovs-unreachable', 'ovs-timeout'];

export const OPERATIONS: readonly Operation[] = [
  operation({
    id: 'listNetworks',
    method: 'GET',
    path: '/v1/networks',
    tag: 'networks',
    summary: 'All networks, also those that somebody else made',
    responses: { 200: { description: 'By name.', schema: schemas.NetworkList } },
    problems: NORTHBOUND,
    handle: async ({ service }) => ok(await service.listNetworks()),
  }),
  operation({
    id: 'createNetwork',
    method: 'POST',
    path: '/v1/networks',
    tag: 'networks',
    summary: 'Makes a network',
    description: 'The same again answers 200; the same name with other properties is `network-conflict`.',
    body: schemas.NetworkSpec,
    responses: madeResponses('The network', schemas.Network),
    problems: [
      'spec-invalid',
      'network-conflict',
      'network-foreign',
      'network-ambiguous',
      'tag-in-use',
      'tags-exhausted',
      'subnet-overlap',
      ...NORTHBOUND,
    ],
    handle: async ({ service }, { body }) => made(await service.createNetwork(body)),
  }),
  operation({
    id: 'getNetwork',
    method: 'GET',
    path: '/v1/networks/{name}',
    tag: 'networks',
    summary: 'One network',
    params: BY_NETWORK,
    responses: { 200: { description: 'The network.', schema: schemas.Network } },
    problems: ['network-unknown', 'network-ambiguous', ...NORTHBOUND],
    handle: async ({ service }, { params }) => ok(await service.getNetwork(params.name)),
  }),
  operation({
    id: 'removeNetwork',
    method: 'DELETE',
    path: '/v1/networks/{name}',
    tag: 'networks',
    summary: 'Removes a network; its tag is free again',
    params: BY_NETWORK,
    query: Type.Object(
      { force: Type.Optional(Type.Enum(['true', 'false'], { description: 'Detach its containers first.' })) },
      closed,
    ),
    responses: { 204: { description: 'It is gone.' } },
    problems: ['network-unknown', 'network-ambiguous', 'network-busy', 'network-foreign', ...NORTHBOUND],
    handle: async ({ service }, { params, query }) => {
      await service.removeNetwork(params.name, { force: query.force === 'true' });
      return GONE;
    },
  }),
  operation({
    id: 'adoptNetwork',
    method: 'POST',
    path: '/v1/networks/{name}/adopt',
    tag: 'networks',
    summary: 'Takes over a logical switch that somebody else made',
    params: BY_NETWORK,
    body: schemas.AdoptSpec,
    responses: { 200: { description: 'The network; it is ours now.', schema: schemas.Network } },
    problems: [
      'spec-invalid',
      'network-unknown',
      'network-ambiguous',
      'network-conflict',
      'tag-in-use',
      'tags-exhausted',
      ...NORTHBOUND,
    ],
    handle: async ({ service }, { params, body }) => ok(await service.adoptNetwork(params.name, body)),
  }),
  operation({
    id: 'setNetworkPolicy',
    method: 'PUT',
    path: '/v1/networks/{name}/policy',
    tag: 'networks',
    summary: 'Refused: there is no policy in VLAN mode',
    params: BY_NETWORK,
    responses: {},
    problems: ['not-supported'],
    handle: () =>
      Promise.reject(
        new ArcaError(
          'not-supported',
          'network policy is not in VLAN mode: containers of a network reach each other, those of different networks do not; nothing was changed',
        ),
      ),
  }),

  operation({
    id: 'listAttachments',
    method: 'GET',
    path: '/v1/attachments',
    tag: 'attachments',
    summary: 'The containers on networks',
    query: Type.Object(
      { network: Type.Optional(schemas.NetworkName), container: Type.Optional(schemas.ContainerName) },
      closed,
    ),
    responses: { 200: { description: 'By container, then network.', schema: schemas.AttachmentList } },
    problems: ['spec-invalid', ...NORTHBOUND],
    handle: async ({ service }, { query }) => ok(await service.listAttachments(query)),
  }),
  operation({
    id: 'attach',
    method: 'POST',
    path: '/v1/attachments',
    tag: 'attachments',
    summary: 'Puts a container on a network; answers when its relay forwards',
    description:
      'Takes up to seconds. If a step fails all are undone, and `step` says which. A caller that goes away stops nothing: the call is finished or undone all the same.',
    body: schemas.AttachmentSpec,
    responses: madeResponses('The attachment', schemas.Attachment),
    problems: [
      'spec-invalid',
      'network-unknown',
      'network-ambiguous',
      'network-foreign',
      'tag-missing',
      'tag-invalid',
      'attachment-conflict',
      'address-in-use',
      'mac-in-use',
      'endpoint-in-use',
      'ports-exhausted',
      'attach-failed',
      'bridge-missing',
      'bridge-black-hole',
      'timed-out',
      ...NORTHBOUND,
      ...OVS,
    ],
    handle: async ({ service }, { body }) => made(await service.attach(body)),
  }),
  operation({
    id: 'getAttachment',
    method: 'GET',
    path: '/v1/attachments/{container}/{network}',
    tag: 'attachments',
    summary: 'One container on one network',
    params: BY_PAIR,
    responses: { 200: { description: 'The attachment.', schema: schemas.Attachment } },
    problems: ['attachment-unknown', ...NORTHBOUND],
    handle: async ({ service }, { params }) => ok(await service.getAttachment(params.container, params.network)),
  }),
  operation({
    id: 'detach',
    method: 'DELETE',
    path: '/v1/attachments/{container}/{network}',
    tag: 'attachments',
    summary: 'Takes a container off a network; both databases are then as they were before',
    params: BY_PAIR,
    responses: { 204: { description: 'It is gone.' } },
    problems: ['attachment-unknown', 'timed-out', ...NORTHBOUND, ...OVS],
    handle: async ({ service }, { params }) => {
      await service.detach(params.container, params.network);
      return GONE;
    },
  }),

  operation({
    id: 'listChassis',
    method: 'GET',
    path: '/v1/chassis',
    tag: 'chassis',
    summary: 'The chassis of the southbound database',
    responses: { 200: { description: 'By name.', schema: schemas.ChassisList } },
    problems: SOUTHBOUND,
    handle: async ({ service }) => ok(await service.listChassis()),
  }),
  operation({
    id: 'registerChassis',
    method: 'POST',
    path: '/v1/chassis',
    tag: 'chassis',
    summary: 'Registers a chassis',
    body: schemas.ChassisSpec,
    responses: madeResponses('The chassis', schemas.Chassis),
    problems: ['spec-invalid', 'chassis-conflict', ...SOUTHBOUND, ...OVS],
    handle: async ({ service }, { body }) => made(await service.registerChassis(body)),
  }),
  operation({
    id: 'removeChassis',
    method: 'DELETE',
    path: '/v1/chassis/{name}',
    tag: 'chassis',
    summary: 'Removes a chassis',
    params: BY_CHASSIS,
    responses: { 204: { description: 'It is gone.' } },
    problems: ['chassis-unknown', 'chassis-conflict', ...SOUTHBOUND, ...OVS],
    handle: async ({ service }, { params }) => {
      await service.removeChassis(params.name);
      return GONE;
    },
  }),

  operation({
    id: 'health',
    method: 'GET',
    path: '/v1/health',
    tag: 'health',
    summary: 'Asks each part over its own protocol',
    responses: {
      200: { description: 'Every part is well.', schema: schemas.Health },
      503: { description: 'One is ill; the body says which.', schema: schemas.Health },
    },
    problems: [],
    async handle({ service }) {
      const health = await service.health();
      return { status: health.state === 'ok' ? 200 : 503, body: health };
    },
  }),
  operation({
    id: 'reconcile',
    method: 'POST',
    path: '/v1/reconcile',
    tag: 'health',
    summary: 'Makes what is there what should be there',
    body: schemas.ReconcileSpec,
    responses: { 200: { description: 'What was done, or would be.', schema: schemas.ReconcileResult } },
    problems: ['spec-invalid', ...NORTHBOUND, ...OVS],
    handle: async ({ service }, { body }) => ok(await service.reconcile(body)),
  }),
  operation({
    id: 'events',
    method: 'GET',
    path: '/v1/events',
    tag: 'health',
    summary: 'What happens from now on, as server-sent events',
    description:
      'Each event has its `type` as name and a ControlEvent as `data`. Comments come every 15 s, and one at once. A reader that is too slow is dropped. The stream ends when the server stops: connect again, and list.',
    responses: {
      200: {
        description: 'A stream that does not end by itself.',
        contentType: 'text/event-stream',
        schema: Type.String(),
      },
    },
    problems: ['too-busy'],
  }),
  operation({
    id: 'metrics',
    method: 'GET',
    path: '/metrics',
    tag: 'health',
    summary: 'Counters of this process and all relays, for Prometheus',
    responses: {
      200: { description: "Prometheus' text format.", contentType: 'text/plain', schema: Type.String() },
    },
    problems: [],
    async handle({ service }) {
      const { contentType, body } = await service.metrics();
      return { status: 200, contentType, body };
    },
  }),

  operation({
    id: 'version',
    method: 'GET',
    path: '/v1/version',
    tag: 'about',
    summary: 'Which arca-control this is',
    responses: { 200: { description: 'Its version.', schema: schemas.Version } },
    problems: [],
    handle: async ({ version }) => ok({ version, api: 'v1', pid: process.pid }),
  }),
  operation({
    id: 'openapi',
    method: 'GET',
    path: '/v1/openapi.json',
    tag: 'about',
    summary: 'This document',
    responses: { 200: { description: 'OpenAPI 3.1.', schema: Type.Object({ openapi: Type.String() }) } },
    problems: [],
    handle: async ({ document }) => ok(document()),
  }),
  operation({
    id: 'describeProblem',
    method: 'GET',
    path: '/v1/problems/{code}',
    tag: 'about',
    summary: 'What the code of a problem means',
    params: Type.Object({ code: Type.Enum([...PROBLEM_CODES]) }, closed),
    responses: { 200: { description: 'Its meaning.', schema: schemas.ProblemKind } },
    problems: ['spec-invalid'],
    handle: async (_context, { params }) => ok(describeProblem(params.code)),
  }),
];
