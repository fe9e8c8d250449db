/** The calls of the API behind HTTP: routing, validation, problems. It listens nowhere; server.ts does. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { ArcaError, toArcaError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { ControlService } from '../model.js';
import type { EventStreams } from './events.js';
import { buildDocument } from './openapi.js';
import { type Answer, OPERATIONS, type Operation, type OperationContext } from './operations.js';
import { describeProblem, type FieldError, type HttpCode, PROBLEM_MEDIA_TYPE, problem, problemOf } from './problems.js';

export interface AppOptions {
  readonly service: ControlService;
  readonly streams: EventStreams;
  readonly log: Logger;
  readonly version: string;
}

export interface App {
  handle(request: IncomingMessage, response: ServerResponse): void;
  /** From now on every call is answered with `shutting-down`. Resolves when those that run have ended. */
  drain(): Promise<void>;
}

const BODY_LIMIT_BYTES = 64 * 1024;
/** A name of 255 bytes, percent-encoded, and then some. */
const LONGEST_PARAMETER = 1024;
/** Of the fields that are wrong, so many are told. */
const MOST_FIELD_ERRORS = 10;
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'] as const;

export async function createApp({ service, streams, log, version }: AppOptions): Promise<App> {
  const running = new Set<Promise<unknown>>();
  let isDraining = false;
  const document = buildDocument(version);
  const context: OperationContext = { service, version, document: () => document };

  const app = fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    routerOptions: { maxParamLength: LONGEST_PARAMETER },
    // What the schemas do not know is an error, and nothing is made into what it is not.
    ajv: {
      customOptions: {
        ...{ removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: true, discriminator: true },
      },
    },
    // A path that can't be decoded, or with a longer name than there is.
    frameworkErrors: (error, request, reply) => void sendFailure(error, request, reply),
  });

  app.addHook('onRequest', async (_request, reply) => {
    if (isDraining) return sendProblem(reply, 'shutting-down', 'arca-control is being stopped');
  });
  app.addHook('onSend', async (_request, reply) => {
    if (isDraining) reply.header('connection', 'close');
  });
  app.addHook('onResponse', async ({ method, url }, reply) => {
    log.debug({ method, url, status: reply.statusCode, durationMs: Math.round(reply.elapsedTime) }, 'answered');
  });
  app.setErrorHandler(sendFailure);
  app.setNotFoundHandler((request, reply) =>
    sendProblem(reply, 'route-unknown', `there is nothing at ${pathOf(request)}; GET /v1/openapi.json tells what is`),
  );

  for (const operation of OPERATIONS) addRoute(app, operation);
  for (const path of new Set(OPERATIONS.map(({ path }) => path))) addRefusal(app, path);
  await app.ready();

  function addRoute(to: FastifyInstance, { method, path, params, query, body, handle }: Operation): void {
    to.route({
      method,
      url: toRoute(path),
      schema: { ...(params && { params }), ...(query && { querystring: query }), ...(body && { body }) },
      exposeHeadRoute: method === 'GET' && handle !== undefined,
      handler: (request, reply) => (handle ? answer(handle, request, reply) : openStream(reply)),
    });
  }

  async function answer(
    handle: NonNullable<Operation['handle']>,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    // It runs to its end whatever becomes of the caller; `drain` waits for it.
    const call = handle(context, { params: request.params, query: request.query, body: request.body });
    const ended = call.then(
      () => {},
      () => {},
    );
    running.add(ended);
    void ended.then(() => running.delete(ended));
    try {
      return sendAnswer(reply, await call);
    } catch (error) {
      throw toArcaError(error);
    }
  }

  function openStream(reply: FastifyReply): FastifyReply {
    if (!streams.open(reply.raw)) return sendProblem(reply, 'too-busy', 'too many readers of events; try again later');
    return reply.hijack();
  }

  function sendFailure(error: FastifyError | ArcaError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    if (error instanceof ArcaError) {
      if (error.code === 'unexpected') log.error({ err: error.cause ?? error, url: request.url }, 'a call failed');
      return send(reply, problemOf(error));
    }
    if (error.validation) {
      const errors = fieldErrors(error);
      const told = errors.map(({ in: where, field, message }) => `${fieldText(where, field)} ${message}`).join('; ');
      return send(reply, problem('spec-invalid', told, { errors }));
    }
    const code = httpCodeOf(error);
    if (code === 'media-type-unsupported') return sendProblem(reply, code, 'send the body as application/json');
    if (code !== undefined) return sendProblem(reply, code, error.message);
    log.error({ err: error, url: request.url }, 'a request failed');
    return send(reply, problemOf(toArcaError(error)));
  }

  return {
    handle: (request, response) => app.routing(request, response),
    async drain() {
      isDraining = true;
      while (running.size > 0) await Promise.all(running);
    },
  };
}

/** A path that is there, asked with another method. Before the body is looked at. */
function addRefusal(app: FastifyInstance, path: string): void {
  const known: readonly string[] = OPERATIONS.filter((operation) => operation.path === path).map(
    ({ method }) => method,
  );
  const isStream = OPERATIONS.some((operation) => operation.path === path && operation.handle === undefined);
  const allowed = known.includes('GET') && !isStream ? [...known, 'HEAD'] : known;
  app.route({
    method: METHODS.filter((method) => !allowed.includes(method)),
    url: toRoute(path),
    onRequest: async (request, reply) => {
      reply.header('allow', allowed.join(', '));
      return sendProblem(reply, 'method-not-allowed', `${path} takes ${allowed.join(', ')}, not ${request.method}`);
    },
    handler: (_request, reply) => reply,
  });
}

/** OpenAPI writes `{name}`, Fastify `:name`. */
function toRoute(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ':$1');
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? '';
}

function sendAnswer(reply: FastifyReply, { status, body, contentType }: Answer): FastifyReply {
  if (body === undefined) return reply.code(status).send();
  if (typeof body === 'string')
    return reply
      .code(status)
      .type(contentType ?? 'text/plain')
      .send(body);
  return reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body));
}

function sendProblem(reply: FastifyReply, code: HttpCode, detail: string): FastifyReply {
  return send(reply, problem(code, detail));
}

function send(reply: FastifyReply, body: { readonly status: number }): FastifyReply {
  return reply.code(body.status).type(PROBLEM_MEDIA_TYPE).send(JSON.stringify(body));
}

/** What Fastify and its parsers say of a request; nothing for what is no fault of the caller. */
function httpCodeOf(error: FastifyError): HttpCode | undefined {
  switch (error.statusCode) {
    case 413:
      return 'body-too-large';
    case 415:
      return 'media-type-unsupported';
    default:
      return error.statusCode !== undefined && error.statusCode < 500 ? 'request-malformed' : undefined;
  }
}

const PLACES = { body: 'body', params: 'path', querystring: 'query', headers: 'query' } as const;

function fieldErrors({ validation = [], validationContext = 'body' }: FastifyError): FieldError[] {
  return validation.slice(0, MOST_FIELD_ERRORS).map(({ instancePath, keyword, params, message = '' }) => {
    const within = (property: unknown): string =>
      `${instancePath}/${String(property).replaceAll('~', '~0').replaceAll('/', '~1')}`;
    const at = (field: string, said: string): FieldError => ({ in: PLACES[validationContext], field, message: said });
    switch (keyword) {
      case 'required':
        return at(within(params['missingProperty']), 'is missing');
      case 'additionalProperties':
        return at(within(params['additionalProperty']), 'is not known');
      case 'enum':
        return at(instancePath, `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}`);
      case 'discriminator':
        return at(within(params['tag']), 'names none of the alternatives');
      default:
        return at(instancePath, message);
    }
  });
}

function fieldText(where: FieldError['in'], field: string): string {
  if (field === '') return `the ${where}`;
  const name = field.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
  return where === 'body' ? name : `${name} (${where})`;
}

/** For what is no HTTP at all: written to the bare connection. */
export function rawProblem(code: HttpCode, detail: string): string {
  const body = JSON.stringify(problem(code, detail));
  return [
    `HTTP/1.1 ${describeProblem(code).status} ${code}`,
    `content-type: ${PROBLEM_MEDIA_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    '',
    body,
  ].join('\r\n');
}
