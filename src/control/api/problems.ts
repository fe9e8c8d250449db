/** Errors as RFC 9457 problem details: which HTTP status each code has, and what a problem says. Pure. */
import { type ArcaError, ERROR_KINDS, type ErrorCode } from '../../errors.js';

/** What only HTTP knows. The codes of src/errors.ts stand beside these. */
const HTTP_KINDS = {
  'route-unknown': { status: 404, meaning: 'there is nothing at that path' },
  'method-not-allowed': { status: 405, meaning: 'that path does not take that method' },
  'request-malformed': { status: 400, meaning: 'the request is no HTTP, or its body is no JSON' },
  'request-timeout': { status: 408, meaning: 'the request did not arrive in time' },
  'body-too-large': { status: 413, meaning: 'the body is larger than the server takes' },
  'media-type-unsupported': { status: 415, meaning: 'the body is not application/json' },
  'headers-too-large': { status: 431, meaning: 'the header fields are larger than the server takes' },
  'too-busy': { status: 503, meaning: 'the server has as many of those calls as it takes; try again' },
  'shutting-down': { status: 503, meaning: 'the server is being stopped; try again' },
} as const satisfies Record<string, { readonly status: number; readonly meaning: string }>;

export type HttpCode = keyof typeof HTTP_KINDS;
export type ProblemCode = ErrorCode | HttpCode;

/**
 * 400: the request is wrong by itself; 404 and 409: it does not fit what is there; 501: not done in this version;
 * 503 and 504: a part that is needed does not answer; 507: a range is full; 500: the rest.
 */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  unexpected: 500,
  usage: 400,

  'network-unknown': 404,
  'network-ambiguous': 409,
  'tag-missing': 409,
  'tag-invalid': 400,
  'northbound-unreachable': 503,
  'northbound-timeout': 504,

  'ovs-unreachable': 503,
  'ovs-timeout': 504,
  'bridge-missing': 503,
  'bridge-black-hole': 503,
  'attach-unsupported': 501,
  'attach-failed': 500,
  'ovs-port-in-use': 409,

  'endpoint-in-use': 409,
  'endpoint-failed': 500,
  'tap-name-in-use': 409,
  'tap-name-invalid': 400,
  'tap-failed': 500,
  'permission-denied': 500,
  'tun-missing': 500,
  'vsock-missing': 500,
  'tap-lost': 500,

  'command-missing': 500,
  'command-failed': 500,
  'addon-missing': 500,
  'timed-out': 504,

  'cleanup-incomplete': 500,
  'forced-exit': 500,

  'sandbox-failed': 500,
  'datapath-missing': 500,
  'sandbox-missing': 500,

  'control-unreachable': 503,
  'spec-invalid': 400,
  'network-conflict': 409,
  'network-busy': 409,
  'network-foreign': 409,
  'tag-in-use': 409,
  'tags-exhausted': 507,
  'subnet-overlap': 409,
  'attachment-unknown': 404,
  'attachment-conflict': 409,
  'address-in-use': 409,
  'mac-in-use': 409,
  'ports-exhausted': 507,
  'chassis-conflict': 409,
  'chassis-unknown': 404,
  'southbound-unreachable': 503,
  'southbound-timeout': 504,
  'not-supported': 501,
  'part-ill': 503,

  'state-invalid': 400,
  'state-foreign': 409,
  'state-changed': 409,
  'state-incomplete': 500,
  'flow-invalid': 400,
  'not-confirmed': 409,
  'not-persistent': 500,
  'doctor-warning': 500,
  'doctor-problem': 500,
};

export const PROBLEM_CODES: readonly ProblemCode[] = [
  ...(Object.keys(ERROR_KINDS) as ErrorCode[]),
  ...(Object.keys(HTTP_KINDS) as HttpCode[]),
];

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

export interface FieldError {
  readonly in: 'body' | 'path' | 'query';
  /** A JSON pointer; empty for the whole. */
  readonly field: string;
  readonly message: string;
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  readonly [extension: string]: unknown;
}

/** What a code means, for whoever follows a problem's `type`. */
export function describeProblem(code: ProblemCode): Pick<Problem, 'type' | 'title' | 'status' | 'code'> & {
  readonly exitCode: number;
} {
  const type = `/v1/problems/${code}`;
  if (isHttpCode(code)) {
    const { status, meaning } = HTTP_KINDS[code];
    return { type, title: meaning, status, code, exitCode: ERROR_KINDS.unexpected.exitCode };
  }
  const { meaning, exitCode } = ERROR_KINDS[code];
  return { type, title: meaning, status: STATUS[code], code, exitCode };
}

export function problem(code: ProblemCode, detail: string, details: Readonly<Record<string, unknown>> = {}): Problem {
  const { type, title, status } = describeProblem(code);
  return { ...details, type, title, status, detail, code };
}

/** What an error says to a caller. What no code names is in the log, and says nothing of our inside. */
export function problemOf(error: ArcaError): Problem {
  if (error.code === 'unexpected') return problem('unexpected', 'something failed in arca-control; its log says what');
  const property = error.code === 'spec-invalid' ? error.details?.['property'] : undefined;
  if (typeof property !== 'string') return problem(error.code, error.message, error.details);
  // In the form that schemas tell it, too.
  const errors: readonly FieldError[] = [{ in: 'body', field: `/${property}`, message: error.message }];
  return problem(error.code, error.message, { ...error.details, errors });
}

function isHttpCode(code: ProblemCode): code is HttpCode {
  return code in HTTP_KINDS;
}
