/** The little that charts need of SVG. Pure. */

export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

type Attributes = Readonly<Record<string, string | number>>;

export function element(name: string, attributes: Attributes, content = ''): string {
  const written = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeXml(value)}"`)
    .join('');
  return content === '' ? `<${name}${written}/>` : `<${name}${written}>${content}</${name}>`;
}

/** `class` decides size and colour, `anchor` is start, middle or end. */
export function text(x: number, y: number, what: string, style: string, anchor = 'start'): string {
  return element('text', { x, y, class: style, 'text-anchor': anchor }, escapeXml(what));
}

export function line(x1: number, y1: number, x2: number, y2: number, style: string): string {
  return element('line', { x1, y1, x2, y2, class: style });
}

/** By itself in a file, or within a page. Follows the reader's preference for light or dark. */
export function document(width: number, height: number, title: string, content: string): string {
  const attributes = {
    xmlns: 'http://www.w3.org/2000/svg',
    viewBox: `0 0 ${width} ${round(height)}`,
    width,
    height,
    role: 'img',
    'font-family': 'system-ui, sans-serif',
  };
  return element('svg', attributes, `${element('title', {}, escapeXml(title))}<style>${STYLE}</style>${content}`);
}

const STYLE = [
  '.t{font-size:15px;font-weight:600;fill:#1f2328}.h{font-size:13px;font-weight:600;fill:#1f2328}',
  '.l{font-size:12px;fill:#424a53}.s{font-size:11px;fill:#6e7781}',
  '.g{stroke:#8c959f;stroke-opacity:.3}.a{stroke:#8c959f}.w{stroke:#1f2328;stroke-width:1.5}',
  '@media(prefers-color-scheme:dark){.t,.h{fill:#f0f6fc}.l{fill:#c9d1d9}.s{fill:#8b949e}.w{stroke:#f0f6fc}}',
].join('');

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}
