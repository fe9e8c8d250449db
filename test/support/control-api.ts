/** HTTP as a caller of the control API writes it, and the OpenAPI document that every answer is held to. */
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { within } from './time.js';

/** What a test reads of is what it expects there. */
// biome-ignore lint/suspicious/noExplicitAny: expectations check it
type Json = any;

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Of a JSON text. */
  readonly json: Json;
}

export interface HttpCall {
  readonly method?: string;
  /** As it goes over the wire: nothing is normalized. */
  readonly path: string;
  /** An object goes as JSON. */
  readonly body?: object | string;
  readonly headers?: Readonly<Record<string, string>>;
}

export function http(socketPath: string, { method = 'GET', path, body, headers = {} }: HttpCall): Promise<HttpAnswer> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const answer = new Promise<HttpAnswer>((resolve, reject) => {
    const asking = request(
      {
        ...{ socketPath, method, path, agent: false },
        headers: { ...(text !== undefined && { 'content-type': 'application/json' }), ...headers },
      },
      (response) => {
        let said = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          said += chunk;
        });
        response.on('error', reject);
        response.on('end', () => {
          const isJson = /json/.test(response.headers['content-type'] ?? '') && said !== '';
          resolve({
            ...{ status: response.statusCode ?? 0, headers: response.headers, text: said },
            json: isJson ? JSON.parse(said) : undefined,
          });
        });
      },
    );
    asking.on('error', reject);
    asking.end(text);
  });
  return within(answer, `${method} ${path}`);
}

/** A connection on which the test writes what it likes; `text` is what came so far. */
export function rawConnection(socketPath: string): {
  readonly socket: Socket;
  readonly ended: Promise<string>;
  text(): string;
} {
  const socket = connect(socketPath);
  let said = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    said += chunk;
  });
  socket.on('error', () => {});
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(said)));
  return { socket, ended, text: () => said };
}

export interface ApiContract {
  /** Throws if the answer is not what the document says of that call. */
  check(call: HttpCall, answer: HttpAnswer): void;
  readonly operationIds: readonly string[];
}

/** Throws if it is no OpenAPI 3.1 document. */
export async function readContract(document: Json): Promise<ApiContract> {
  const validity = await new Validator().validate(structuredClone(document));
  if (!validity.valid) throw new Error(`no OpenAPI document: ${JSON.stringify(validity.errors)}`);

  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv);
  ajv.addSchema({ ...document, $id: 'openapi' });
  const routes = Object.keys(document.paths).map((template) => ({
    template,
    pattern: new RegExp(`^${template.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  }));
  const pointer = (...steps: string[]): string =>
    steps.map((step) => `/${encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');

  return {
    operationIds: Object.values<Json>(document.paths).flatMap((methods) =>
      Object.values<Json>(methods).map(({ operationId }) => operationId),
    ),
    check({ method = 'GET', path }, { status, headers, text, json }) {
      const fail = (why: string): never => {
        throw new Error(`${method} ${path} answered ${status} ${text}: ${why}`);
      };
      const type = (headers['content-type'] ?? '').split(';', 1)[0] ?? '';
      const validate = (at: string, value: unknown): void => {
        const check = ajv.compile({ $ref: `openapi#${at}` });
        if (!check(value)) fail(ajv.errorsText(check.errors));
      };
      const route = routes.find(({ pattern }) => pattern.test(path.split('?', 1)[0] ?? ''));
      const operation = route && document.paths[route.template][method.toLowerCase()];
      if (status >= 400 && type === 'application/problem+json') {
        validate('/components/schemas/Problem', json);
        if (json.status !== status) fail('its status is another');
        if (json.type !== `/v1/problems/${json.code}`) fail('its type is not that of its code');
      }
      if (route === undefined || operation === undefined) {
        if (type !== 'application/problem+json') fail('what is not in the document has to be a problem');
        return;
      }
      const key = Object.hasOwn(operation.responses, String(status)) ? String(status) : 'default';
      const { content } = operation.responses[key];
      if (content === undefined) {
        if (text !== '') fail('there should be no body');
        return;
      }
      if (!Object.hasOwn(content, type)) fail(`its content type is ${type}`);
      const at = pointer('paths', route.template, method.toLowerCase(), 'responses', key, 'content', type, 'schema');
      validate(at, type.includes('json') ? json : text);
    },
  };
}
