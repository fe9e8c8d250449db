/** Where a container's end of the stream connects, as `--listen` of arca-relay takes it and databases hold it. Pure. */

export type StreamEndpoint =
  | { readonly transport: 'vsock'; readonly port: number }
  | { readonly transport: 'unix'; readonly path: string };

/** `vsock:5555` or `unix:PATH`. */
export function streamEndpointText(endpoint: StreamEndpoint): string {
  switch (endpoint.transport) {
    case 'vsock':
      return `vsock:${endpoint.port}`;
    case 'unix':
      return `unix:${endpoint.path}`;
  }
}

/** What `streamEndpointText` wrote, or nothing. */
export function readStreamEndpoint(text: string): StreamEndpoint | undefined {
  if (text.startsWith('unix:') && text.length > 'unix:'.length) {
    return { transport: 'unix', path: text.slice('unix:'.length) };
  }
  const [, port] = /^vsock:([1-9]\d{0,9})$/.exec(text) ?? [];
  return port === undefined ? undefined : { transport: 'vsock', port: Number(port) };
}
